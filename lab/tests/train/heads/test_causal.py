"""The causal check: masked heads write nothing, and random ones are of the same layers."""

from __future__ import annotations

import json

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput, ProxyUnsupported
from tamis.probes.probing.heads import HeadProfile
from tamis_lab.methods.window_attention.edited_pass import (
    MaskedHeads,
    final_states,
    token_losses,
    unembedding,
)
from tamis_lab.train.heads.causal import check_heads, random_heads
from tests.probes import tiny
from tests.service.cli.cli_kit import tamis

IDS = [5, 60, 61, 7, 62, 60, 8]


def silence(made, heads):
    """The output weights of some heads set to nothing."""
    with torch.no_grad():
        for layer, head in heads:
            made.body.layers[layer].self_attn.o_proj.weight[
                :, head * kit.SIZE : (head + 1) * kit.SIZE
            ] = 0


@pytest.mark.parametrize("seed", kit.SEEDS)
def test_a_masked_head_is_one_whose_output_weights_are_nothing(seed):
    heads = [(0, 1), (1, 0), (1, 3)]
    plain, without = kit.proxy(seed), kit.proxy(seed)
    silence(without, heads)
    masked = final_states(plain, IDS, MaskedHeads(heads))
    torch.testing.assert_close(masked, final_states(without, IDS), atol=1e-5, rtol=1e-4)
    assert (masked - final_states(plain, IDS)).abs().max() > 1e-3


def test_losses_are_those_of_each_token_after_the_one_before():
    made = kit.proxy()
    states, rows = final_states(made, IDS), unembedding(made)
    logs = torch.log_softmax(states @ rows.T, -1)
    due = torch.stack([-logs[i, token] for i, token in enumerate(IDS[1:])])
    torch.testing.assert_close(token_losses(states, rows, IDS), due)


def test_a_model_with_an_output_of_its_own_is_refused():
    made = kit.proxy()
    made.config._entries["tie_word_embeddings"] = False
    with pytest.raises(ProxyUnsupported, match="does not tie"):
        unembedding(made)


def test_random_heads_are_as_many_of_each_layer_and_none_of_the_found():
    heads = [(1, 0), (1, 3), (4, 2)]
    for seed in range(20):
        drawn = random_heads(heads, 5, seed)
        assert sorted(layer for layer, _ in drawn) == [1, 1, 4]
        assert not set(drawn) & set(heads)
        assert len(set(drawn)) == 3
    with pytest.raises(BadInput, match="check fewer heads"):
        random_heads([(0, h) for h in range(3)], 5, 0)


def records():
    return [
        record(f"r{i}", "Who?", doc(f"Al{i} ran far.", "It rains.", gold=[0]), doc("Bo sat."))
        for i in range(4)
    ]


def test_the_check_measures_all_three_on_the_same_needles():
    made = kit.proxy()
    found = check_heads(made, [(1, 0)], records(), lambda *_: None)
    assert len(found.plain) == len(found.found) == len(found.random) == 4
    assert found.plain != found.found != found.random
    mean = sum(r - f for r, f in zip(found.random, found.found, strict=True)) / 4
    assert found.lead[0] == pytest.approx(mean)
    assert found.lead[1] <= found.lead[0] <= found.lead[2]
    with pytest.raises(BadInput, match="--data FILE"):
        check_heads(made, [(1, 0)], [], lambda *_: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, records, and heads by echo."""
    folder = tmp_path_factory.mktemp("finders")
    tiny.save("llama", folder / "llama")
    write(folder / "records.jsonl", records())
    done = tamis(
        *("lab", "heads", "find", "--by", "echo", "--proxy", folder / "llama", "--out"),
        *(folder / "echo.json", "--option", "tokens=8", "--option", "draws=2", "--k", 3),
    )
    assert done.exit_code == 0, done.output
    return folder


def test_a_finder_without_data_makes_a_profile(place):
    found = HeadProfile.load(place / "echo.json")
    assert (found.by, found.cases, found.settings) == ("echo", 2, {"tokens": 8, "draws": 2})
    assert set(found.stability) == {"4", "8", "16"}


def test_the_check_is_a_command(place):
    words = ("lab", "heads", "check", place / "echo.json", "--proxy", place / "llama", "--k", 2)
    done = tamis(*words, "--data", place / "records.jsonl", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["by"], found["k"], found["needles"]) == ("echo", 2, 4)
    shown = tamis(*words, "--data", place / "records.jsonl")
    assert "best 2 by echo masked" in shown.stdout


def test_roles_are_a_command(place):
    words = ("lab", "heads", "roles", "--proxy", place / "llama", "--data", place / "records.jsonl")
    done = tamis(*words, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert torch.tensor(found["by_head"]).shape == (4, 4, 6)
    assert all(0 <= v <= 1 for row in found["by_head"] for head in row for v in head[:5])


def test_what_a_finder_cannot_do_is_refused_in_one_line(place):
    for words, message in (
        (("--by", "echo", "--option", "colour=red"), "no option ['colour']"),
        (("--by", "locos"), "give --data FILE"),
        (("--by", "ecko"), "echo"),
    ):
        done = tamis("lab", "heads", "find", *words, "--proxy", place / "llama")
        assert done.exit_code == 2
        assert message in done.stderr


def test_help_lists_every_finder_with_its_paper():
    shown = " ".join(tamis("lab", "heads", "find", "--help").stdout.split())
    for name, paper in (("echo", "2407.15891"), ("duo", "2410.10819"), ("maps", "2412.11965")):
        assert f"{name}:" in shown
        assert paper in shown
