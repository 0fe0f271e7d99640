"""A recorder records its own pass, stops it early, and leaves nothing behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from tamis.probes.attention.recorder import KVLayer, Recorder, use_recorder
from tamis.probes.errors import BadInput, ProxyUnsupported
from tamis.probes.model.hf_backend import attend
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.attention.eager_kit import ALL, FP32, assert_close, everywhere, pack, run
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


@everywhere
@pytest.mark.parametrize("packed", [True, False])
def test_layers_after_the_last_wanted_never_run(kind: str, packed: bool) -> None:
    model = tiny.model(kind)
    ran = count_layers(model)
    recorder = Recorder(frozenset({0, 2}), [(4, 9)], [9] if packed else None, stop_after=2)
    weights = run(model, recorder, input_ids=torch.tensor([tiny.ids(9)]))[0]
    assert ran == [0, 1, 2]
    assert_close(weights, tiny.eager(tiny.model(kind, "eager"), tiny.ids(9))[[0, 2], :, 4:9])


def count_layers(model: Any) -> list[int]:
    """Grows by a layer's number whenever that layer starts."""
    ran: list[int] = []
    for number, layer in enumerate(model.get_decoder().layers):
        layer.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    return ran


@everywhere
def test_threads_that_share_a_model_record_only_their_own_rows(kind: str) -> None:
    model = tiny.model(kind)
    jobs = [
        (frozenset({0}), [(8, 12)], [12], None),
        (frozenset({1, 3}), [(0, 20)], None, None),
        (frozenset({2}), [(5, 6)], [30], 2),
    ]
    batches = [torch.tensor([tiny.ids(n, n)]) for n in (12, 20, 30)]

    def read(job: int) -> Tensor:
        layers, spans, lengths, stop = jobs[job]
        recorder = Recorder(layers, spans, lengths, stop_after=stop)
        return run(model, recorder, input_ids=batches[job])[0]

    expected = [read(job) for job in range(3)]
    start, failures = threading.Barrier(3), []

    def work(job: int) -> None:
        start.wait(timeout=10)
        for _ in range(12):
            ours = read(job)
            if ours.shape != expected[job].shape or (ours - expected[job]).abs().max() > FP32:
                failures.append(job)

    threads = [threading.Thread(target=work, args=(job,)) for job in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
    assert failures == []
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("stop_after", [None, 1])
def test_nothing_is_left_on_the_model_and_no_recorder_stays_set(stop_after: int | None) -> None:
    model = tiny.model("llama")
    before = [set(vars(module)) for module in model.modules()]
    recorder = Recorder(frozenset({1}), [(0, 5)], [5], stop_after=stop_after)
    run(model, recorder, input_ids=torch.tensor([tiny.ids(5)]))
    with torch.inference_mode():
        model(input_ids=torch.tensor([tiny.ids(7)]))
    assert [set(vars(module)) for module in model.modules()] == before
    assert [len(w) for w in recorder.weights] == [1]


def test_an_error_inside_the_forward_pass_surfaces_and_leaves_no_recorder_set() -> None:
    model = tiny.model("llama")

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    recorder = Recorder(frozenset({0}), [(0, 5)], [5])
    with pytest.raises(RuntimeError, match="out of memory"):
        run(model, recorder, input_ids=torch.tensor([tiny.ids(5)]))
    handle.remove()
    with torch.inference_mode():
        model(input_ids=torch.tensor([tiny.ids(7)]))
    assert len(recorder.weights[0]) == 1


def test_recorders_nest_and_the_outer_one_comes_back() -> None:
    model, ids = tiny.model("llama"), torch.tensor([tiny.ids(6)])
    outer, inner = Recorder(ALL, [(0, 6)], [6]), Recorder(frozenset({2}), [(0, 6)], [6])
    with torch.inference_mode(), use_recorder(outer):
        with use_recorder(inner):
            model(input_ids=ids, use_cache=False)
        assert outer.weights == [[]]
        model(input_ids=ids, use_cache=False)
    assert (len(inner.weights[0]), len(outer.weights[0])) == (1, tiny.LAYERS)


def test_stored_keys_do_not_keep_the_forward_pass_in_memory() -> None:
    recorder = Recorder(frozenset(), [(0, 0)] * 2, [3, 40], keep_kv=True)
    pack(tiny.model("llama"), Recorder(ALL, [(0, 3)], [3]), [tiny.ids(3)], [0])
    with torch.inference_mode(), use_recorder(recorder):
        tiny.model("llama")(input_ids=torch.tensor([tiny.ids(43)]), use_cache=False)
    kept: KVLayer = recorder.kv_layers[0][0]
    assert kept.keys.shape == (tiny.KV_HEADS, 3, 16)
    assert kept.keys.untyped_storage().nbytes() == kept.keys.nbytes


@pytest.mark.parametrize(
    "extra",
    [
        {"softcap": 50.0},
        {"s_aux": torch.zeros(4)},
        {"position_bias": torch.zeros(1)},
        {"is_causal": False},
    ],
)
def test_attention_that_is_more_than_causal_softmax_is_refused(extra: dict[str, Any]) -> None:
    q = torch.zeros(1, 4, 3, 8)
    with pytest.raises(ProxyUnsupported, match="choose a decoder"):
        attend(torch.nn.Identity(), q, q, q, None, **extra)


@pytest.mark.parametrize("layers", [(2, 1), (1, 1), (-1, 2)])
def test_layers_out_of_order_repeated_or_negative_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="ascending"):
        Want(layers)


def test_a_want_is_as_deep_as_its_deepest_layer() -> None:
    assert Want((0, 3, 19)).depth == 20
