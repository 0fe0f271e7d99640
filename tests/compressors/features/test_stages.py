"""Reading in stages: what goes on is read as ever, what stops is estimated and counted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from tamis.compressors.features import gate as gates
from tamis.compressors.features.gate import PURPOSES, Gate, Stage, WindowJudge, _Group
from tamis.compressors.features.words import WORD_FEATURES, Lexicon, word_features
from tamis.compressors.methods import question_rows
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.pipeline.compression import Compressor, Request
from tamis.compressors.rules import Budget, Rules
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.service.batch.row_compressor import PooledReader
from tamis.service.engine.engine import Engine, EngineBounds
from tamis.service.engine.errors import TooLarge
from tamis.service.engine.request import UnderDeadline
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.laws.methods import make_probe, question_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

L, H, W = tiny.LAYERS, tiny.HEADS, len(WORD_FEATURES)
QUESTION = "When was the bridge opened?"
PASSAGES = [
    Passage("The bridge is old. It was opened in 1792 by the duke."),
    Passage("Cheese ripens for a year. Caves are cool."),
    Passage("It rains. The hills are green and the inn is shut.", title="Hills"),
    Passage("Boats pass below the bridge at noon. Then all is still."),
]
UNITS = units_of(PASSAGES, "en")
FP32 = 1e-4


def gate_probe(reader, *stages, seed=0):
    """A gate with these stages for every purpose, and small random estimates."""
    draw = torch.Generator().manual_seed(seed)
    rows = [[*stage, 0.0][:4] for stage in stages]  # without a floor unless it is given
    weights = {f"stages_{purpose}": rows for purpose in PURPOSES}
    for depth in (0, 1, 2, 3):
        shape = 2 * depth * H + W + 1, 2 * (L - depth) * H
        weights[f"layers_from_{depth}"] = 0.05 * torch.randn(*shape, generator=draw)
        weights[f"layers_from_{depth}"][-1] = -3.0
    return make_probe(reader, "gate", weights)


def method_of(reader, *stages, **options):
    gate = gate_probe(reader, *stages) if stages else False
    return QuestionRows(reader, question_probe(reader), rank_probe=None, gate=gate, **options)


def by_layer(reading):
    return reading.features.view(len(reading.features), 2, L, H)


class Counting:
    """A reader that counts the tokens that run, times the layers that they run through."""

    def __init__(self, reader):
        self.reader, self.card, self.layout = reader, reader.card, reader.layout
        self.can_pause, self.token_layers = reader.can_pause, 0

    def read(self, prompts, want):
        self.token_layers += sum(len(p) * (want.depth - p.first_layer) for p in prompts)
        return self.reader.read(prompts, want)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_stage_that_stops_nothing_changes_nothing(isolated):
    proxy = tiny.proxy()
    margin = -1e9 if isolated else 1e9
    whole = method_of(proxy, isolated=isolated)
    staged = method_of(proxy, [0, margin, 1], [2, margin, 1], isolated=isolated)
    plain, read = (m.read(QUESTION, PASSAGES, UNITS) for m in (whole, staged))
    torch.testing.assert_close(read.features, plain.features, atol=FP32, rtol=0)
    assert read.depths is None
    assert (read.tokens, read.windows, read.tokens_read) == (
        *(plain.tokens, plain.windows, plain.tokens_read),
    )
    values = staged.scores(QUESTION, PASSAGES, UNITS).values
    assert values == pytest.approx(whole.scores(QUESTION, PASSAGES, UNITS).values, abs=FP32)


def test_what_goes_on_is_read_as_ever_and_what_stops_is_estimated_from_what_was_read():
    proxy = tiny.proxy()
    staged = method_of(proxy, [2, 0.0, 1])
    plain = method_of(proxy).read(QUESTION, PASSAGES, UNITS)
    read = staged.read(QUESTION, PASSAGES, UNITS)
    went_on = read.is_whole
    assert {UNITS[u].passage for u in went_on.nonzero().flatten().tolist()} != set(range(4))
    torch.testing.assert_close(read.features[went_on], plain.features[went_on], atol=FP32, rtol=0)
    known = by_layer(read)[:, :, :2]
    torch.testing.assert_close(known, by_layer(plain)[:, :, :2], atol=FP32, rtol=0)
    lexicon = Lexicon(QUESTION, PASSAGES, UNITS)
    words = torch.from_numpy(word_features(QUESTION, lexicon, read.tokens))
    estimated = Gate(gate_probe(proxy, [2, 0.0, 1])).complete(known, words)
    torch.testing.assert_close(read.features[~went_on], estimated[~went_on])
    scores = staged.scores(QUESTION, PASSAGES, UNITS)
    assert scores.units_read == int(went_on.sum()) < len(UNITS)
    assert scores.warnings == ()


def test_only_the_layers_of_what_goes_on_run():
    proxy = tiny.proxy()
    staged, counting = method_of(proxy, [1, 0.0, 1]), Counting(proxy)
    staged.reader = counting
    read = staged.read(QUESTION, PASSAGES, UNITS)
    ask = len(proxy.layout.question_tokens(QUESTION).ids)
    tokens = {
        p: len(proxy.layout.passage_tokens(one.text, [], one.title).ids) + ask
        for p, one in enumerate(PASSAGES)
    }
    depth = {unit.passage: read.depths[u] for u, unit in enumerate(UNITS)}
    assert sorted(set(depth.values())) == [1, L]
    # a window ends with its last sentence, here with the passage
    assert counting.token_layers == sum(tokens[p] * depth[p] for p in tokens)
    assert read.tokens_read == sum(tokens.values())


def test_passages_left_out_by_their_words_are_not_read_and_the_counts_say_so():
    proxy = tiny.proxy()
    staged = method_of(proxy, [0, 0.0, 1])
    scores = staged.scores(QUESTION, PASSAGES, UNITS)
    assert scores.windows == 1
    assert scores.units_read == 2
    assert scores.warnings == staged.rank(QUESTION, PASSAGES, UNITS).warnings == ()
    every = method_of(proxy, [0, 0.0, 1], cascade=False)
    assert every.scores(QUESTION, PASSAGES, UNITS).units_read is None


@pytest.mark.parametrize("first", [0, 1, 3])
def test_what_stopped_goes_on_after_all_from_where_it_paused(first):
    """All of four windows are read in the end: 4 of them, whatever the margin, are 1.7 · 4^.625."""
    proxy = tiny.proxy()
    whole = method_of(proxy).read(QUESTION, PASSAGES, UNITS)
    staged, counting = method_of(proxy, [first, 0.0, 1], [L, 0.0, 1, 1.7]), Counting(proxy)
    staged.reader = counting
    read = staged.read(QUESTION, PASSAGES, UNITS)
    assert read.depths is None
    torch.testing.assert_close(read.features, whole.features, atol=FP32, rtol=0)
    assert read.tokens_read == whole.tokens_read
    assert counting.token_layers == L * whole.tokens_read


def test_what_was_read_decides_who_goes_on_after_all():
    """Judged again, the best of those that stopped goes on, and only it."""
    proxy = tiny.proxy()
    once = method_of(proxy, [1, 0.0, 1]).read(QUESTION, PASSAGES, UNITS)
    twice = method_of(proxy, [1, 0.0, 1], [L, 0.0, 1, 0.8]).read(QUESTION, PASSAGES, UNITS)
    added = twice.is_whole & ~once.is_whole
    probe = question_probe(proxy)
    judge = WindowJudge(probe, "units", QUESTION, PASSAGES, UNITS)
    words = judge.words(once.tokens)
    scores = judge.scores(once.features, words, slice(0, len(UNITS)))
    stopped = scores.masked_fill(once.is_whole, -torch.inf)
    best = UNITS[int(stopped.argmax())].passage
    assert {UNITS[u].passage for u in added.nonzero().flatten().tolist()} == {best}


@pytest.mark.parametrize(
    ("margin", "floor", "settled", "due"),
    [
        (1.0, 0.0, "00000", "10010"),
        (0.0, 0.0, "00000", "10000"),
        (0.0, 1.0, "00000", "10110"),  # 5^.625 is 2.7
        (0.0, 1.0, "01100", "11100"),  # what is settled counts, and the best judged one is enough
        (9.0, 0.0, "00000", "11110"),  # the last one is not judged
        (0.0, 9.0, "00000", "11110"),
    ],
)
def test_the_windows_that_go_on_by_hand(margin, floor, settled, due):
    best = torch.tensor([3.0, 1.0, 1.5, 2.0, 9.0 - 7.9])
    settled = torch.tensor([mark == "1" for mark in settled])
    judged = ~settled & torch.tensor([True, True, True, True, False])
    found = Stage(4, margin, 1, floor).choose(best, settled, judged)
    assert "".join(str(int(mark)) for mark in found) == due


def test_a_stage_waits_until_there_are_enough_windows():
    staged = method_of(tiny.proxy(), [2, 0.0, 5])
    assert staged.read(QUESTION, PASSAGES, UNITS).depths is None
    more = [*PASSAGES, Passage("One more. It is a test.")]
    assert set(staged.read(QUESTION, more, units_of(more, "en")).depths) == {2, L}


def test_no_passage_decides_whether_an_isolated_one_goes_on():
    proxy = tiny.proxy()
    whole = method_of(proxy, isolated=True)
    read = whole.read(QUESTION, PASSAGES, UNITS)
    judge = WindowJudge(whole.probe, "isolated", QUESTION, PASSAGES, UNITS)
    words = judge.words(read.tokens)
    estimated = Gate(gate_probe(proxy)).complete(by_layer(read)[:, :, :3], words)
    best = []
    for p in range(4):
        two = slice(2 * p, 2 * p + 2)
        best.append(judge.scores(estimated[two], words[two], two).max())
    middle = float(torch.stack(best).sort().values[1:3].mean())
    staged = method_of(proxy, [3, middle, 1], isolated=True)
    together = staged.scores(QUESTION, PASSAGES, UNITS)
    assert 0 < together.units_read < len(UNITS)
    alone = []
    for passage in PASSAGES:
        alone += staged.scores(QUESTION, [passage], units_of([passage], "en")).values
    assert together.values == pytest.approx(alone, abs=FP32)
    none = method_of(proxy, [3, 1e9, 1], isolated=True).scores(QUESTION, PASSAGES, UNITS)
    assert none.units_read == 0
    # nor what an isolated sentence is estimated to say
    words = judge.words(read.tokens)
    for p in range(4):
        two = slice(2 * p, 2 * p + 2)
        alone = WindowJudge(
            whole.probe, "isolated", QUESTION, [PASSAGES[p]], units_of([PASSAGES[p]], "en")
        )
        assert torch.equal(words[two], alone.words(read.tokens[two]))


def test_states_are_given_up_once_a_group_has_been_read(monkeypatch):
    monkeypatch.setattr("tamis.compressors.features.gate.GROUP_TOKENS", 40)
    groups, of = [], _Group.of
    monkeypatch.setattr(_Group, "of", lambda *given: groups.append(of(*given)) or groups[-1])
    method_of(tiny.proxy(), [2, 0.0, 1], [L, 0.0, 1, 0.8]).read(QUESTION, PASSAGES, UNITS)
    assert len(groups) > 1
    assert not any(group.prompts for group in groups)


@pytest.mark.parametrize(
    ("budget", "rules"),
    [(Budget(threshold=0.01), Rules()), (Budget(max_tokens=20), Rules(unanswerable="nothing"))],
)
def test_where_probabilities_decide_everything_is_read(budget, rules):
    proxy = tiny.proxy()
    staged, whole = method_of(proxy, [1, 0.0, 1]), method_of(proxy)
    for method in (staged, whole):
        method.probe.weights["answerable"] = torch.zeros(26)
    counter = proxy.layout.tokenizer
    got, want = (
        Compressor(m, "x", counter).compress(QUESTION, PASSAGES, budget, rules)
        for m in (staged, whole)
    )
    assert got.scores == want.scores
    assert got.units_read is None


def test_a_budget_in_tokens_says_how_much_was_read():
    proxy = tiny.proxy()
    method = method_of(proxy, [1, 0.0, 1])
    found = Compressor(method, "x", proxy.layout.tokenizer).compress(
        *(QUESTION, PASSAGES, Budget(max_tokens=40))
    )
    whole = int(method.read(QUESTION, PASSAGES, UNITS).is_whole.sum())
    assert 0 < found.units_read == whole < len(UNITS)


@pytest.mark.parametrize("stages", [[[2, 0.3, 1]], [[1, 0.5, 1], [2, 0.3, 1]]])
def test_kept_passages_are_read_in_stages_with_the_same_scores(stages):
    proxy = tiny.proxy()
    plain = method_of(proxy, *stages).scores(QUESTION, PASSAGES, UNITS)
    staged = method_of(CachedReader(proxy, PassageCache()), *stages)
    fill, warm = (staged.scores(QUESTION, PASSAGES, UNITS) for _ in range(2))
    assert fill.values == pytest.approx(plain.values, abs=FP32)
    assert warm.values == pytest.approx(plain.values, abs=FP32)
    assert warm.tokens_read < fill.tokens_read
    assert warm.tokens_read + warm.tokens_cached == fill.tokens_read
    # another question sends others on, whose deeper layers were not kept
    other = staged.scores("Why are the hills green?", PASSAGES, UNITS)
    again = method_of(proxy, *stages).scores("Why are the hills green?", PASSAGES, UNITS)
    assert other.values == pytest.approx(again.values, abs=FP32)
    assert other.tokens_read + other.tokens_cached == again.tokens_read


def test_many_windows_are_judged_in_groups(monkeypatch):
    monkeypatch.setattr("tamis.compressors.features.gate.GROUP_TOKENS", 40)
    staged = method_of(tiny.proxy(), [2, 1e9, 1])
    whole = method_of(tiny.proxy()).read(QUESTION, PASSAGES, UNITS)
    read = staged.read(QUESTION, PASSAGES, UNITS)
    torch.testing.assert_close(read.features, whole.features, atol=FP32, rtol=0)
    assert len(read.tokens) == len(UNITS)


@contextmanager
def engine_of(proxy, **bounds):
    engine = Engine(lambda: proxy, EngineBounds(batch_tokens=100, **bounds))
    try:
        yield engine, engine.start()
    finally:
        engine.drain(5)


@pytest.mark.parametrize("has_deadline", [False, True])
def test_the_service_reads_in_stages_unless_a_request_has_a_deadline(has_deadline):
    deadline = time.monotonic() + 1000 if has_deadline else None
    proxy = tiny.proxy()
    want = method_of(proxy, *([[2, 0.3, 1]] if deadline is None else []))
    plain = want.scores(QUESTION, PASSAGES, UNITS)
    with engine_of(proxy) as (engine, reader):
        method = method_of(reader, [2, 0.3, 1])
        request = engine.admit(1000, deadline=deadline)
        with request.as_current():
            found = method.scores(QUESTION, PASSAGES, UNITS)
        engine.release(request)
    assert found.values == pytest.approx(plain.values, abs=FP32)
    assert found.units_read == plain.units_read


def read_by_request(method, counter, **more):
    compressor = Compressor(UnderDeadline(method), "x", counter)
    prepared = compressor.prepare(Request(QUESTION, PASSAGES, Budget(max_tokens=20), **more))
    scores = compressor.score(prepared)
    return scores, compressor.select(prepared, scores)


def test_a_request_that_is_not_read_to_the_end_is_not_late_and_scores_that_are_shown_are_the_same():
    proxy = tiny.proxy()
    staged, counter = method_of(proxy, [1, 0.0, 1]), proxy.layout.tokenizer
    scores, found = read_by_request(staged, counter)
    assert scores.count_read == found.units_read < len(scores.values) == len(UNITS)
    assert not scores.is_late
    again, explained = read_by_request(staged, counter, always_score=True)
    assert explained.units_read == found.units_read
    assert again.values == scores.values == explained.scores == found.scores
    assert explained.kept == found.kept


def test_a_request_has_its_limit_of_tokens_whatever_stages_leave_out():
    proxy = tiny.proxy()
    whole = method_of(proxy).read(QUESTION, PASSAGES, UNITS).tokens_read
    for most in (whole, whole - 1):
        with engine_of(proxy, max_request_tokens=most) as (engine, reader):
            method = method_of(reader, [0, 0.0, 1])
            request = engine.admit(1000)
            with request.as_current():
                if most == whole:
                    assert method.scores(QUESTION, PASSAGES, UNITS).units_read < len(UNITS)
                else:
                    with pytest.raises(TooLarge, match=f"the request has {whole} tokens"):
                        method.scores(QUESTION, PASSAGES, UNITS)
            engine.release(request)


def test_rows_of_a_batch_are_read_in_stages_as_single_calls_are():
    proxy = tiny.proxy()
    method, pooled = method_of(proxy, [1, 0.0, 1]), PooledReader(proxy)
    shared = method_of(pooled, [1, 0.0, 1])
    questions = [QUESTION, "Why are the hills green?", "What ripens?"]
    found = pooled.run_together([partial(shared.scores, q, PASSAGES, UNITS) for q in questions])
    for question, scores in zip(questions, found, strict=True):
        want = method.scores(question, PASSAGES, UNITS)
        assert scores.values == pytest.approx(want.values, abs=FP32)
        assert scores.units_read == want.units_read < len(UNITS)


def test_the_gate_that_ships_is_for_the_probe_that_ships(monkeypatch):
    reader = tiny.proxy()
    ships, gate = question_probe(reader), gate_probe(reader, [1, 0.5, 10])
    monkeypatch.setattr(question_rows, "shipped_probe", lambda *_: ships)
    monkeypatch.setattr(gates, "choose_probe", lambda *_: gate)
    assert QuestionRows(reader, ships).gate
    assert QuestionRows(reader, question_probe(reader)).gate  # the same weights
    other = question_probe(reader, seed=1)
    assert QuestionRows(reader, other).gate is None
    assert QuestionRows(reader, other, gate=True).gate


def test_a_model_that_cannot_pause_is_read_to_the_end():
    staged = method_of(tiny.proxy("gemma3"), [2, 0.0, 1])
    assert staged.read(QUESTION, PASSAGES, UNITS).depths is None


def test_a_gate_that_cannot_be_used_is_refused():
    proxy = tiny.proxy()
    probe = question_probe(proxy)
    with pytest.raises(BadInput, match="there is none for tiny-llama at 4 layers"):
        QuestionRows(proxy, probe, gate=True)
    assert QuestionRows(proxy, probe).gate is None
    with pytest.raises(BadInput, match="here one for gate is needed"):
        QuestionRows(proxy, probe, gate=probe)
    broken = make_probe(proxy, "gate", {"stages_units": torch.zeros(3)})
    with pytest.raises(BadModelFile, match="is no list of stages"):
        QuestionRows(proxy, probe, gate=broken).read(QUESTION, PASSAGES, UNITS)
