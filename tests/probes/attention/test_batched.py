"""All sequences at once: the same as one after the other, for any lengths, windows and pasts."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tamis.compressors.methods.ehpc import pool_unit_batch, unit_features
from tamis.compressors.methods.question_rows import pool_question_batch, pool_question_rows
from tamis.compressors.methods.sentinel import pool_context_batch, pool_context_shares
from tamis.compressors.reading.windows import pool_signals, tokenize_question
from tamis.probes.attention import batched, packed
from tamis.probes.attention.batched import BatchedAttention
from tamis.probes.attention.recorder import AttentionInput, KVLayer, Recorder, StopForward
from tamis.probes.attention.rounding import low_bits
from tamis.probes.attention.rounding.low_bits import LowBitVectors, TokenPlaces, unpack_codes
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import SharedRows, Signal, Want, pool_shared, pool_tokens
from tests.pretend_device import PretendDevice
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

H, HKV, D, LAYERS = 4, 2, 8, 3
GROUPS = (
    ("question",),
    ("question_mean",),
    ("sentence_means",),
    ("last",),
    ("question", "question_mean", "sentence_means", "last"),
)
close = partial(torch.testing.assert_close, atol=2e-6, rtol=1e-5)


def random_batch(seed: int) -> dict[str, Any]:
    """What a recorder is told of a batch of any lengths, pasts and rows."""
    draw = random.Random(seed)
    lengths = [draw.choice((1, 2, 7, 30, 90)) for _ in range(draw.randrange(1, 9))]
    shared = past(draw.randrange(1, 20), seed)
    kinds = (None, shared, past(draw.randrange(1, 50), seed + 1))
    spans, sentences = [], []
    for n in lengths:
        first = draw.randrange(n)
        spans.append((first, draw.randrange(first, n) + 1))
        rows = spans[-1][1] - first
        cut = draw.randrange(1, rows) if rows > 1 and draw.random() < 0.7 else 0
        apart = ((0, cut), (cut, rows)) if cut else ()
        sentences.append(apart[draw.random() < 0.3 :])  # of some the second alone asks
    return {
        "row_spans": spans,
        "sentences": sentences,
        "lengths": lengths,
        "past_kv": [draw.choice(kinds) for _ in lengths],
    }


def past(tokens: int, seed: int) -> list[KVLayer]:
    draw = torch.Generator().manual_seed(seed)
    return [
        KVLayer(*torch.randn(2, HKV, tokens, D, generator=draw).unbind()) for _ in range(LAYERS)
    ]


def run(recorder: Recorder, attend: Any, seed: int, windows: list[int | None]) -> list[Tensor]:
    """The outputs of all layers; every layer has queries, keys and values of its own."""
    draw, outs = torch.Generator().manual_seed(seed), []
    tokens = sum(recorder.lengths or ())
    for layer, window in enumerate(windows):
        parts = torch.randn(1, tokens, H + 2 * HKV, D, generator=draw).transpose(1, 2)
        query, key, value = torch.split(parts, [H, HKV, HKV], 1)
        try:
            outs.append(attend(AttentionInput(layer, query, key, value, 0.4, window)))
        except StopForward:
            break
    return outs


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("stop_after", [None, 1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_a_batch_is_what_its_sequences_are(seed: int, stop_after: int | None, groups: Any) -> None:
    layers = frozenset({0, 2} if seed % 2 and stop_after != 1 else range(LAYERS))
    if stop_after == 1:
        layers = frozenset({0, 1})
    asked = {
        "layers": layers,
        "groups": groups,
        "keep_kv": True,
        "record_queries": True,
        "stop_after": stop_after,
    }
    batch = random_batch(seed)
    kept = [random.Random(seed + n).randrange(n + 1) for n in batch["lengths"]]
    one_by_one, together = (
        Recorder(**asked, **batch, kv_tokens=kept if seed % 3 else None) for _ in range(2)
    )
    windows = [None, 5, 40]
    expected = run(one_by_one, partial(packed.attend, one_by_one), seed, windows)
    together.custom_attention = attention = BatchedAttention(together)
    attention.prepare(torch.device("cpu"), H)
    found = run(together, attention.attend, seed, windows)
    attention.finish()
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs)
    for s in range(len(batch["lengths"])):
        close(attention.weights(s), torch.stack(one_by_one.weights[s]))
        close(torch.stack(together.queries[s]), torch.stack(one_by_one.queries[s]))
        for one, other in zip(together.kv_layers[s], one_by_one.kv_layers[s], strict=True):
            assert torch.equal(one.keys, other.keys)
            assert torch.equal(one.values, other.values)


def test_chunks_of_little_memory_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sequence a chunk, then all in one: what is padded, and how, does not matter."""
    found = []
    for elements in (1, 3000, 64 << 20):
        monkeypatch.setattr(batched, "CHUNK_ELEMENTS", elements)
        recorder = Recorder(frozenset(range(LAYERS)), **random_batch(4), groups=("question_mean",))
        attention = recorder.custom_attention = BatchedAttention(recorder)
        attention.prepare(torch.device("cpu"), H)
        outs = run(recorder, attention.attend, 4, [None] * LAYERS)
        sizes = len(recorder.row_spans)
        found.append((outs, [attention.weights(s) for s in range(sizes)], len(attention._chunks)))
    assert found[0][2] == len(random_batch(4)["lengths"]) > found[1][2] > found[2][2] == 1
    for outs, weights, _ in found[1:]:
        for ours, theirs in zip(outs + weights, found[0][0] + found[0][1], strict=True):
            close(ours, theirs)


def random_prompts(layout: Any, seed: int) -> list[Prompt]:
    """Passages of any length with titles or not, and three questions in turn."""
    draw = random.Random(seed)
    asked = ("Who?", "How did it end, in the end?", "Is it wet?\nWe saw it. Hello!")
    questions = [tokenize_question(layout, text) for text in asked]
    prompts = []
    for n in range(draw.randrange(3, 9)):
        ids = tuple(draw.randrange(256) for _ in range(draw.choice((0, 3, 20, 120))))
        title = draw.randrange(min(4, len(ids) + 1))
        cuts = sorted(draw.sample(range(len(ids) - title + 1), min(3, len(ids) - title + 1)))
        spans = tuple(pairwise(cuts))
        prompts.append(Prompt(PassageTokens(ids, title, spans), questions[n % 3]))
    return prompts


WANTS = (
    Want((0, 1, 2, 3), ("question", "question_mean", "sentence_means", "last")),
    Want((0, 1), ("sentence_means",)),
    Want((1, 3), ("question",)),
    Want((0, 1), ("question_mean",), pause=True),
)


@pytest.mark.parametrize("want", WANTS, ids=lambda want: f"{want.rows[-1]}-{want.depth}")
@pytest.mark.parametrize("storage", ["exact", "int8", "thin"])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_a_proxy_reads_the_same_cold_filling_and_kept(
    kind: str, storage: Any, want: Want, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "gemma3":  # transformers runs whole passes only
        want = replace(want, pause=False)
    readings = []
    for together in (False, True):
        monkeypatch.setattr(batched, "is_used", lambda device, together=together: together)
        proxy = tiny.proxy(kind)
        prompts = random_prompts(proxy.layout, 5)
        reader = CachedReader(proxy, PassageCache(storage=storage))
        found = [list(r.read(prompts, want)) for r in (proxy, reader, reader)]
        if want.pause:
            deeper = Want((2, 3), want.rows)
            paused = [
                Prompt(p.passage, p.question, signal.paused)
                for p, signal in zip(prompts * 3, chain(*found), strict=True)
            ]
            third = len(prompts)
            found.append(list(proxy.read(paused[:third], deeper)))
            found.append(list(reader.read(paused[2 * third :], deeper)))
        readings.append(found)
    # codes may round otherwise where keys differ in their last digit
    within = {"exact": 2e-6, "int8": 2e-5, "thin": 2e-3}[storage]
    most = 2e-4 if storage == "int8" else within  # of the few rows that see such a code in int8
    for theirs, ours in zip(*readings, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.cached_tokens == other.cached_tokens
            torch.testing.assert_close(one.weights, other.weights, atol=most, rtol=0)
            beyond = (one.weights - other.weights).abs() > within
            assert beyond.sum() <= beyond.numel() / 1000


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
def test_keys_queries_and_rows_of_passages_are_the_same(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[Tensor]] = []
    for together in (False, True):
        monkeypatch.setattr(batched, "is_used", lambda device, together=together: together)
        proxy = tiny.proxy(kind)
        prompts, want = random_prompts(proxy.layout, 2), Want((0, 1, 2, 3))
        kept = list(proxy.compute_kv(prompts, want))
        asked = [prompt.question for prompt in prompts[:3]]
        found.append(
            [
                *(part for layers in kept for one in layers for part in (one.keys, one.values)),
                *question_states(proxy, asked, (1, 3), 50),
            ]
        )
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_units_of_a_batch_are_pooled_as_one_by_one(seed: int) -> None:
    draw, random_ = torch.Generator().manual_seed(seed), random.Random(seed)
    weights = torch.rand(2, 5, 3, 4, 81, generator=draw) ** 20  # a few tokens draw nearly all
    weights[..., -1] = 0
    rows, spans, signals = [], [], []
    for place in range(5):
        start, stop = sorted(random_.sample(range(80), 2))
        own = 1 + place % 4
        weights[:, place, :, own:] = 0
        rows.append(SharedRows(weights, place, own, start, stop))
        width = stop - start
        spans.append(
            [tuple(sorted(random_.choices(range(width + 1), k=2))) for _ in range(7)]
            + [(0, 0), (0, width)]
        )
        signals.append(Signal(rows[-1].own(), (0, 1), ("sentence_means",)))
    expected = [pool_question_rows(*pair) for pair in zip(signals, spans, strict=True)]
    close(pool_question_batch(rows, spans), torch.cat(expected))
    last = [replace(one, weights=one.weights[..., :1, :], rows=1) for one in rows]
    alone = [Signal(one.own(), (0, 1), ("last",)) for one in last]
    shares = [pool_context_shares(*pair) for pair in zip(alone, spans, strict=True)]
    close(pool_context_batch(last, spans), torch.cat(shares))
    options = (((0, 2), (1, 0), (0, 0)), 3, 5)
    features = [unit_features(*pair, *options) for pair in zip(signals, spans, strict=True)]
    close(pool_unit_batch(rows, spans, *options), torch.cat(features))
    sums, best, widths = pool_shared(rows, spans)
    means = sums / widths
    at = 0
    for signal, some, own in zip(signals, spans, rows, strict=True):
        mine = slice(at, at + len(some))
        close(means[mine, ..., : own.rows], pool_tokens(signal.weights, some, "mean"))
        close(best[mine, ..., : own.rows], pool_tokens(signal.weights, some, "max"))
        at += len(some)


def test_a_question_of_no_sentences_has_one_group() -> None:
    question = QuestionTokens((1, 2, 3), 1)
    assert question.sentence_rows == ()
    recorder = Recorder(frozenset({0}), [(1, 3)], [3], groups=("sentence_means",))
    assert BatchedAttention(recorder)._group_spans(0) == [(0, 2)]


def test_pooling_keeps_the_order_of_prompts_over_several_tensors() -> None:
    """Of a cached reading, signals of two batches come in turns; one signal may have no batch."""
    weights = torch.rand(1, 3, 1, 1, 9)
    weights[..., -1] = 0
    prompt = Prompt(PassageTokens(tuple(range(8)), 0, ((0, 3), (3, 8))), QuestionTokens((1,), 0))
    spans = prompt.passage.unit_spans
    with PretendDevice("cuda") as card:
        tensors = [weights.to("cuda"), (weights * 2).to("cuda")]
        given = [SharedRows(tensors[n % 2], n // 2, 1, 0, 8) for n in range(5)]
        signals = [Signal(s.own(), (0,), ("last",), n, None, s) for n, s in enumerate(given)]
        signals[3] = replace(signals[3], shared=None)
        card.reset()
        pools = pool_question_rows, pool_question_batch
        found = list(pool_signals([prompt] * 5, iter(signals), *pools))
        assert (card.syncs, dict(card.sync_calls)) == (1, {"copy cuda to cpu": 1})
    for n, one in enumerate(found):
        alone = Signal((weights * (1 + n % 2))[:, n // 2, ..., :8], (0,), ("last",))
        close(one.features, pool_question_rows(alone, spans))
    assert [one.cached_tokens for one in found] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("elements", [1, 64 << 20])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_passages_in_few_bits_are_coded_and_decoded_as_one_by_one(
    bits: int, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_bits, "CHUNK_ELEMENTS", elements)
    sizes = [7, 0, 1, 90, 2, 7, 33]
    draw = torch.Generator().manual_seed(bits)
    vectors = torch.randn(3, HKV, sum(sizes), D, generator=draw) * torch.arange(1.0, D + 1)
    plan = batched._plan_tokens(sizes)
    tokens = TokenPlaces(**{name: torch.from_numpy(array) for name, array in plan.items()})
    together = LowBitVectors.quantize_passages(vectors, bits, tokens, sizes)
    joined = low_bits.JoinedLowBits([[own[n] for own in together] for n in range(3)], tokens)
    decoded = torch.cat([joined.decode(0, 1), joined.decode(1, 3)], 1)
    at = 0
    for own, n in zip(together, sizes, strict=True):
        for layer, ours in enumerate(own):
            exact = vectors[layer, :, at : at + n]
            theirs = LowBitVectors.quantize(exact, bits, "channel")
            assert (ours.bits, ours.shape, ours.nbytes) == (bits, theirs.shape, theirs.nbytes)
            if not n:
                continue
            for name in ("lows", "steps"):  # within the last digit of fp16
                pair = getattr(ours, name), getattr(theirs, name)
                torch.testing.assert_close(*pair, atol=1e-5, rtol=1e-3)
            codes = [unpack_codes(one.packed, bits, n * D).int() for one in (ours, theirs)]
            moved = (codes[0] - codes[1]).abs()
            assert moved.max() <= 1
            assert moved.float().mean() < 0.02
            target = torch.empty(ours.shape)
            ours.dequantize_into(target)
            close(decoded[:, layer, at : at + n], target)
        at += n
