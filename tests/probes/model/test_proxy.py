"""A proxy's readings against eager attention over each whole prompt, one by one."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from tamis.probes.errors import BadInput
from tamis.probes.interruption import interruptible
from tamis.probes.prompt import TEMPLATES, Prompt, token_batches
from tamis.probes.signal import Signal, Want
from tests.probes import tiny
from tests.probes.attention.eager_kit import BF16, FP32, assert_close, everywhere
from tests.probes.model.proxy_kit import TEXTS, WANT, assert_same_signals, eager_weights, prompts
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


@everywhere
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, FP32), (torch.bfloat16, BF16)])
def test_reading_equals_eager_attention_over_each_whole_prompt(
    kind: str, dtype: torch.dtype, within: float
) -> None:
    proxy, oracle = tiny.proxy(kind, dtype=dtype), tiny.model(kind, "eager", dtype)
    asked = prompts(proxy)
    for prompt, signal in zip(asked, proxy.read(asked, WANT), strict=True):
        assert signal.weights.dtype == torch.float32
        assert_close(signal.weights, eager_weights(proxy, oracle, prompt), within)


@everywhere
def test_reading_cached_passages_equals_reading_them_and_equals_eager(kind: str) -> None:
    proxy, oracle = tiny.proxy(kind), tiny.model(kind, "eager")
    asked = prompts(proxy)
    kept = list(proxy.compute_kv(asked, WANT))
    signals = list(proxy.read_cached(asked, kept, WANT))
    assert_same_signals(signals, list(proxy.read(asked, WANT)))
    for prompt, signal in zip(asked, signals, strict=True):
        assert_close(signal.weights, eager_weights(proxy, oracle, prompt))


@everywhere
def test_cached_passages_can_be_read_repeatedly_without_changing_them(kind: str) -> None:
    proxy = tiny.proxy(kind)
    kept = list(proxy.compute_kv(prompts(proxy), WANT))
    before = [[layer.keys.clone() for layer in layers] for layers in kept]
    for question in ("Why?", "Who in the end sat on the mat?"):
        again = prompts(proxy, [(title, text, question) for title, text, _ in TEXTS])
        assert_same_signals(
            list(proxy.read_cached(again, kept, WANT)), list(proxy.read(again, WANT))
        )
    after = [[layer.keys for layer in layers] for layers in kept]
    assert all(
        torch.equal(a, b)
        for x, y in zip(before, after, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@everywhere
@pytest.mark.parametrize("batch_tokens", [1, 60, 150, 10_000])
def test_packed_readings_equal_single_ones_for_any_batch_size(kind: str, batch_tokens: int) -> None:
    proxy = tiny.proxy(kind)
    asked = prompts(proxy)
    singles = [signal for prompt in asked for signal in proxy.read([prompt], WANT)]
    proxy.batch_tokens = batch_tokens
    assert_same_signals(list(proxy.read(asked, WANT)), singles)
    assert_same_signals(
        list(proxy.read_cached(asked, list(proxy.compute_kv(asked, WANT)), WANT)), singles
    )


@everywhere
@pytest.mark.parametrize("keep", [True, False])
def test_a_passage_is_not_moved_by_the_passages_beside_it(kind: str, keep: bool) -> None:
    proxy = tiny.proxy(kind)
    one, two = prompts(proxy, TEXTS[:2]), prompts(proxy, [TEXTS[5], TEXTS[1]])
    read = (
        (lambda p: proxy.read_cached(p, list(proxy.compute_kv(p, WANT)), WANT))
        if keep
        else (lambda p: proxy.read(p, WANT))
    )
    assert_same_signals([list(read(one))[1]], [list(read(two))[1]])


@everywhere
def test_layers_after_the_last_wanted_never_run(kind: str) -> None:
    proxy = tiny.proxy(kind)
    asked = prompts(proxy)
    proxy.opening_kv()
    ran: set[int] = set()
    for number, layer in enumerate(proxy.model.layers):
        layer.register_forward_pre_hook(lambda *_, number=number: ran.add(number))
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: ran.add(100 + number))
    (first, *_) = proxy.read(asked, Want((0, 2)))
    assert first.weights.shape[0] == 2
    assert ran == {0, 1, 2, 100, 101}, "the last layer wanted stops after its attention"


@everywhere
def test_threads_with_different_wants_on_one_proxy_get_what_each_would_alone(kind: str) -> None:
    proxy = tiny.proxy(kind, batch_tokens=100)
    asked = prompts(proxy)
    wants = [Want((0,), ("last",)), Want((1, 3)), Want((0, 1, 2), ("question",))]
    expected = [list(proxy.read(asked, want)) for want in wants]
    fresh = tiny.proxy(kind, batch_tokens=100)  # the kept head is made under contention too
    results: list[list[Signal]] = [[], [], []]
    start = threading.Barrier(3)

    def work(job: int) -> None:
        start.wait(timeout=10)
        for _ in range(3):
            kept = list(fresh.compute_kv(asked, wants[job]))
            results[job] = [
                *fresh.read(asked, wants[job]),
                *fresh.read_cached(asked, kept, wants[job]),
            ]

    threads = [threading.Thread(target=work, args=(job,)) for job in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
    for job in range(3):
        assert_same_signals(results[job], expected[job] * 2)


def test_readings_taken_in_turns_from_two_wants_do_not_mix() -> None:
    proxy = tiny.proxy(batch_tokens=1)
    asked = prompts(proxy)
    one, two = Want((3,)), Want((0, 1), ("last",))
    turns = list(zip(proxy.read(asked, one), proxy.read(asked, two), strict=True))
    assert_same_signals([a for a, _ in turns], list(proxy.read(asked, one)))
    assert_same_signals([b for _, b in turns], list(proxy.read(asked, two)))


def test_an_error_inside_the_forward_pass_leaves_the_proxy_usable() -> None:
    proxy = tiny.proxy()
    asked = prompts(proxy)
    expected = list(proxy.read(asked, WANT))

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    handle = proxy.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(proxy.read(asked, WANT))
    handle.remove()
    assert_same_signals(list(proxy.read(asked, WANT)), expected)


def test_a_reading_that_is_interrupted_ends_with_the_batch_that_runs() -> None:
    proxy = tiny.proxy(batch_tokens=1)
    asked = prompts(proxy)
    expected = list(proxy.read(asked, WANT))

    def check() -> None:
        raise TimeoutError

    reading = proxy.read(asked, WANT)
    assert_same_signals([next(reading)], expected[:1])
    with pytest.raises(TimeoutError), interruptible(check):
        next(reading)
    assert_same_signals(list(proxy.read(asked, WANT)), expected)


def test_a_prompt_may_fill_the_context_and_not_one_token_more() -> None:
    proxy = tiny.proxy()
    question = proxy.layout.question_tokens("?")
    room = tiny.CONTEXT - len(proxy.layout.opening) - len(question.ids)
    fits, over = (
        Prompt(proxy.layout.passage_tokens("x" * n, []), question) for n in (room, room + 1)
    )
    want = Want((0,))
    (signal,) = proxy.read([fits], want)
    assert signal.weights.shape[-1] == room
    for read in (
        lambda: list(proxy.read([over], want)),
        lambda: list(proxy.read_cached([over], list(proxy.compute_kv([over], want)), want)),
    ):
        with pytest.raises(
            BadInput, match=f"{tiny.CONTEXT + 1} tokens and tiny-llama takes {tiny.CONTEXT}"
        ):
            read()


def test_no_prompts_are_no_signals() -> None:
    proxy = tiny.proxy()
    assert (
        list(proxy.read([], WANT))
        == list(proxy.compute_kv([], WANT))
        == list(proxy.read_cached([], [], WANT))
        == []
    )


def test_keys_of_another_passage_or_of_too_few_layers_are_refused() -> None:
    proxy = tiny.proxy()
    asked = prompts(proxy)
    kept = list(proxy.compute_kv(asked, WANT))
    with pytest.raises(BadInput, match="7 prompts and 4 kept"):
        list(proxy.read_cached(asked, kept[:4], WANT))
    with pytest.raises(BadInput, match=r"prompt 0 needs .* keep the passage again"):
        list(proxy.read_cached(asked, kept[::-1], WANT))
    with pytest.raises(BadInput, match=r"in 4 layers.* and was given .* in 2"):
        list(proxy.read_cached(asked[:1], [kept[0][:2]], WANT))


def test_batches_hold_consecutive_prompts_up_to_the_limit_and_a_long_one_alone() -> None:
    assert list(token_batches(["aa", "b", "cc", "ddddd", "e", "f"], 3)) == [
        ["aa", "b"],
        ["cc"],
        ["ddddd"],
        ["e", "f"],
    ]


@pytest.mark.parametrize("name", ["plain", "sentinel"])
def test_other_templates_read_as_faithfully(name: str) -> None:
    proxy = tiny.proxy("gemma3", template=TEMPLATES[name])
    asked = prompts(proxy)
    for prompt, signal in zip(asked, proxy.read(asked, WANT), strict=True):
        assert_close(signal.weights, eager_weights(proxy, tiny.model("gemma3", "eager"), prompt))
