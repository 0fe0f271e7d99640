"""`tamis lab bench thin`: figures are what their names say, and rows come from one reading."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tamis.probes.attention.recorder import KVLayer
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.probes.model.loading import choose_dtype
from tamis_lab.bench.evidence import BudgetOutcome, EvidenceTally
from tamis_lab.bench.thin import (
    DENSE,
    Candidate,
    Measures,
    ThinnedPassage,
    compare_attention,
    parse_candidates,
    thin_figures,
    verdict,
)
from tamis_lab.datasets.statistics import rank_correlations
from tamis_lab.methods.kv_thinning.contract import SPANS, EvictionPlan
from tamis_lab.methods.kv_thinning.passage_rows import PassageRows
from tamis_lab.methods.kv_thinning.thinning import thin_layers
from tamis_lab.methods.registry import EVICTIONS
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import MEAN, make_prompts, versioned_proxy
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.service.cli.cli_kit import tamis


def kept_passage(text="The cat sat on the mat. Then the dog came in. All was well."):
    proxy = versioned_proxy()
    ask = proxy.layout.question_tokens("Who came in?")
    rows = PassageRows(proxy, 4, [ask, proxy.layout.question_tokens("Why?")])
    rows.sizes = torch.rand(4, tiny.KV_HEADS)
    rows.span_losses = torch.rand(4, tiny.KV_HEADS, len(SPANS))
    (prompt,) = make_prompts(proxy, texts=[("Cats", text)])
    ((_, layers),) = proxy.read_with_kv([prompt], MEAN)
    return rows, prompt, layers


@pytest.mark.parametrize("policy", [*EVICTIONS.names(), "sage:asked", "exact", "int8", "thin"])
@pytest.mark.parametrize("stand_in", [False, True])
def test_every_candidate_can_be_asked_and_less_is_never_more_bytes(policy, stand_in):
    rows, prompt, layers = kept_passage()
    proxy, sizes = rows.proxy, []
    for share in (0.25, 0.5):
        thinned = Candidate(policy, share, stand_in).thin(rows, prompt, layers)
        (signal,) = proxy.read_cached([prompt], [thinned.layers], MEAN)
        assert signal.weights.isfinite().all()
        assert signal.weights.shape[-1] == len(prompt.passage.ids) - prompt.passage.title_tokens
        sizes.append(thinned.bytes_exact)
    assert sizes[0] <= sizes[1]


def test_bytes_of_an_entry_are_those_of_its_vectors_and_ids():
    rows, prompt, layers = kept_passage()
    heads, tokens, size = layers[0].keys.shape
    thinned = Candidate("streaming", 0.5).thin(rows, prompt, layers)
    kept = heads * (tokens // 2)
    vectors = kept * (2 * len(layers) - 1)  # without the values of the last layer
    ids = 2 * (kept * len(layers) + tokens)
    assert thinned.bytes_exact == vectors * size * 2 + ids
    assert thinned.bytes_int8 == vectors * (size + 4) + ids


def test_mass_and_output_error_by_hand():
    keys = torch.tensor([[[0.0], [math.log(3)]]])  # weights 1/4 and 3/4
    values = torch.tensor([[[4.0], [0.0]]])  # puts out 1
    last = KVLayer(keys, values[:, :0])
    plan = EvictionPlan((torch.tensor([[0]]), torch.tensor([[0]])))
    layers = [KVLayer(keys, values), KVLayer(keys, values)]
    thinned = ThinnedPassage(thin_layers(layers, plan), plan, 0, 0, 0.0)
    mass, error = compare_attention(torch.ones(1, 1, 1, 1), [layers[0], last], thinned)
    assert mass == pytest.approx(0.25)
    assert error == pytest.approx(3.0)  # it puts out 4


def test_rank_correlations_are_spearmans_with_ties_averaged():
    rows = [[1, 2, 3], [1, 2, 3], [1, 1, 2], [1, 1, 1]]
    others = [[10, 20, 30], [3, 2, 1], [1, 2, 3], [1, 2, 3]]
    due = [1, -1, 0.75**0.5]
    assert rank_correlations(rows, others) == pytest.approx([*due, 0])
    assert rank_correlations(rows, others, of_constant=1) == pytest.approx([*due, 1])


def test_candidates_are_parsed_and_wrong_ones_refused():
    names = [c.name for c in parse_candidates(["int8", "streaming", "k3v2"], [0.5], ["streaming"])]
    assert names == ["exact", "int8", "streaming 0.5", "streaming 0.5 +stand-ins", "k3v2"]
    with pytest.raises(UnknownMethod, match="streaming"):
        parse_candidates(["streeming"], [0.5], [])
    with pytest.raises(BadInput, match="asked"):
        parse_candidates(["moa:asked"], [0.5], [])
    with pytest.raises(BadInput, match="shares"):
        parse_candidates(["moa"], [1.5], [])


def test_a_row_is_within_only_if_it_is_on_every_set():
    candidates = [Candidate("exact"), Candidate("streaming", 0.5)]
    measures = {
        c.name: Measures([1.0], [0.0], [1.0], [1.0], [1.0], 10, size, size // 2)
        for c, size in zip(candidates, (1000, 500), strict=True)
    }
    tallies = {}
    for name, kept in {"one": 1, "two": 0}.items():
        counts = EvidenceTally(0, gold=[1] * 20)
        counts.outcomes = {
            DENSE: {0.2: BudgetOutcome([1] * 20)},
            "exact": {0.2: BudgetOutcome([1] * 20)},
            "streaming 0.5": {0.2: BudgetOutcome([kept] * 20)},
        }
        tallies[name] = counts
    exact, streaming = thin_figures(tallies, candidates, measures)
    assert (exact["within"], exact["harmless"]) == (True, True)
    assert (streaming["within"], streaming["harmless"]) == (False, False)
    assert streaming["budgets"]["0.2"]["lost"] == pytest.approx(0.5)
    assert "exact, 50 bytes" in verdict([exact, streaming])


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_the_command_measures_real_passages(tmp_path):
    text = "Nothing happened. The harbour closed in 1907. People went on. Bread was cheap then. "
    record = {
        "question": "When did the harbour close?",
        "docs": [
            {"title": "M", "text": text, "sents": [[0, 17], [18, 45]], "gold": [1]},
            {"title": "N", "text": "Rooms are painted in spring.", "sents": [], "gold": []},
        ],
    }
    for name in ("judge", "bank"):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(json.dumps(record | {"id": f"{name}{i}"}) for i in range(2)))
    words = (
        "lab",
        "bench",
        "thin",
        "--judge",
        tmp_path / "judge.jsonl",
        "--bank",
        tmp_path / "bank.jsonl",
    )
    options = ("--policies", "thin,kvcompose", "--shares", "0.5", "--cache", tmp_path / "cache")
    done = tamis(*words, *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    exact, thin, kvcompose = found["rows"]
    assert exact["output_error"] == 0
    numbers = 7_488  # 7,680 without the last layer's values
    assert exact["bytes_exact"] == numbers * choose_dtype("auto", torch.device("cpu")).itemsize
    assert thin["bytes_exact"] < numbers * 2 / 4
    assert 0.4 < kvcompose["bytes_exact"] / (numbers * 2) < 0.6  # two bytes a number in any case
    assert 0 < kvcompose["mass"] < 1
