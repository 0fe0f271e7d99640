"""`tamis lab influence`: scores by hand, the same in any order, resumed where they stopped."""

from __future__ import annotations

import json

import pytest

from lab.tests.methods.window_attention import kit
from tamis.compressors import registry
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import HeadProfile
from tamis_lab.train import influence
from tamis_lab.train.influence import Influence, document_influence, select_documents
from tests.service.cli.cli_kit import tamis

TEXTS = [("a", "Keys are rotated. Keys are rotated."), ("b", "Rain."), ("c", "It rained all day.")]


def test_the_rise_of_the_loss_by_hand():
    assert influence.relative_rise(2.0, 2.5) == 0.25
    assert influence.relative_rise(0.0, 2.5) == 0


def test_with_nothing_masked_every_score_is_0():
    made = kit.proxy()
    for name, text in TEXTS:
        found = document_influence(made, name, text, ())
        assert found.score == 0
        assert found.loss == found.masked_loss > 0


def test_masking_heads_changes_the_loss_and_long_texts_are_read_in_windows():
    made = kit.proxy()
    whole = document_influence(made, "a", TEXTS[0][1], [(0, 1), (1, 2)])
    assert whole.score != 0
    assert whole.tokens == len(TEXTS[0][1])
    cut = document_influence(made, "a", TEXTS[0][1], [(0, 1), (1, 2)], window_tokens=18)
    assert cut.tokens == whole.tokens
    assert cut.loss != whole.loss
    assert document_influence(made, "e", "", [(0, 1)]) == Influence("e", 0, 0, 0, 0)


def test_the_best_share_is_kept_and_ties_go_to_the_earlier():
    found = [Influence(str(i), score, 1, 1, 1) for i, score in enumerate((0.1, 0.4, 0.4, 0.2))]
    assert influence.mark_kept(found, 0.25) == [False, True, False, False]
    assert influence.mark_kept(found, 0.5) == [False, True, True, False]
    assert influence.mark_kept(found, 1) == [True] * 4
    with pytest.raises(BadInput, match="above 0"):
        influence.mark_kept(found, 0)


class Counter:
    """Scores a document by its length, and stops where it is told to."""

    def __init__(self, stop=99):
        self.seen, self.stop = [], stop

    def __call__(self, name, text):
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        self.seen.append(name)
        return Influence(name, len(text) / 100, 1.0, 1.0, len(text))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_that_stopped_goes_on_and_a_torn_line_is_scored_again(tmp_path):
    out, settings = tmp_path / "out.jsonl", {"heads": [(0, 1)]}
    with pytest.raises(KeyboardInterrupt):
        select_documents(TEXTS, Counter(2), out, settings, 0.4)
    assert not out.exists()
    partial = tmp_path / "out.jsonl.partial"
    partial.write_bytes(partial.read_bytes()[:-5])
    second = Counter()
    assert select_documents(TEXTS, second, out, settings, 0.4) == 3
    assert second.seen == ["b", "c"]
    assert [(row["id"], row["keep"]) for row in rows(out)] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_scores_do_not_depend_on_the_order_of_the_documents(tmp_path):
    for name, texts in (("one", TEXTS), ("two", TEXTS[::-1])):
        select_documents(texts, Counter(), tmp_path / name, {}, 0.4)
    assert sorted(map(str, rows(tmp_path / "one"))) == sorted(map(str, rows(tmp_path / "two")))


def test_other_settings_and_repeated_ids_are_refused(tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        select_documents(TEXTS, Counter(1), out, {"heads": 1}, 0.4)
    with pytest.raises(BadInput, match=r"made with heads 1 \(now 2\)"):
        select_documents(TEXTS, Counter(), out, {"heads": 2}, 0.4)
    with pytest.raises(BadInput, match="two documents have the id 'a'"):
        select_documents([*TEXTS, TEXTS[0]], Counter(), tmp_path / "new", {}, 0.4)


def test_the_command_scores_a_corpus_with_a_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load_proxy", lambda *_: kit.proxy())
    card = kit.proxy().card
    scores = ((0.1, 0.9, 0.0, 0.0), (0.0, 0.0, 0.8, 0.0))
    profile = HeadProfile(card.name, card.revision, "short", 2, 4, "echo", scores)
    profile.save(tmp_path / "heads.json")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in TEXTS))
    words = ("lab", "influence", corpus, "-o", tmp_path / "out.jsonl", "--keep", 0.3)
    done = tamis(*words, "--heads", tmp_path / "heads.json", "--head-share", 0.25)
    assert done.exit_code == 0, done.output
    found = rows(tmp_path / "out.jsonl")
    assert [row["id"] for row in found] == ["a", "b", "c"]
    assert sum(row["keep"] for row in found) == 1
    due = document_influence(kit.proxy(), "a", TEXTS[0][1], [(0, 1), (1, 2)])
    assert found[0]["score"] == pytest.approx(due.score, abs=1e-5)
    assert tamis(*words[:-1], 2).exit_code == 2
