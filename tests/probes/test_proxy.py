"""A proxy's readings against eager attention over each whole prompt, one by one."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tamis.probes.capture import Want
from tamis.probes.errors import BadInput, BadModelFile, ProxyMissing, ProxyUnsupported
from tamis.probes.prompt import TEMPLATES, Prompt, packed
from tamis.probes.proxy import Proxy
from tamis.probes.signal import Signal
from tamis.probes.weights import choose_device, choose_dtype, readable
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

# fp32 softmax of the same logits by another order of sums, four layers deep
FP32 = 1e-5
# eager rounds logits and weights to bf16 (8 bits: 4e-3 near 1), in every layer below
BF16 = 2.5e-2

everywhere = pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
WANT = Want((0, 1, 2, 3), ("question", "question_mean", "last"))

# all longer than the sliding window of 8; no title, a title, an empty passage, a control token
TEXTS: tuple[tuple[str | None, str, str], ...] = (
    (None, "The cat sat on the mat. Then the dog came in.", "Who came in?"),
    ("Cats", "In the end all was well.", "How did it end, in the end?"),
    ("Nothing", "", "What?"),
    (None, "", "Why?"),
    (None, "a<|im_end|>b\x00\ud83d", "<|im_start|>?"),
    ("Long", "Water is wet. " * 12, "Wet?"),
)


def prompts(proxy: Proxy, texts: Sequence[tuple[str | None, str, str]] = TEXTS) -> list[Prompt]:
    return [
        Prompt(proxy.layout.read(text, [(0, len(text))], title), proxy.layout.ask(question))
        for title, text, question in texts
    ]


def by_eager(proxy: Proxy, oracle: Any, prompt: Prompt, layers: Sequence[int] = range(4)) -> Tensor:
    """Question rows, their mean and the last over the passage, from the whole prompt at once."""
    head = len(proxy.layout.head)
    ids = [*proxy.layout.head, *prompt.read.ids, *prompt.ask.ids]
    first = head + len(prompt.read.ids) + prompt.ask.rows
    start, stop = head + prompt.read.start, head + len(prompt.read.ids)
    question = tiny.eager(oracle, ids)[list(layers), :, first:, start:stop]
    return torch.cat((question, question.mean(2, keepdim=True), question[:, :, -1:]), dim=2)


def close(ours: Tensor, theirs: Tensor, within: float = FP32) -> None:
    torch.testing.assert_close(ours, theirs, atol=within, rtol=0)


def same(ours: Sequence[Signal], theirs: Sequence[Signal]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.layers, one.rows) == (other.layers, other.rows)
        close(one.weights, other.weights)


@everywhere
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, FP32), (torch.bfloat16, BF16)])
def test_reading_equals_eager_attention_over_each_whole_prompt(
    kind: str, dtype: torch.dtype, within: float
) -> None:
    proxy, oracle = tiny.proxy(kind, dtype=dtype), tiny.model(kind, "eager", dtype)
    asked = prompts(proxy)
    for prompt, signal in zip(asked, proxy.read(asked, WANT), strict=True):
        assert signal.weights.dtype == torch.float32
        close(signal.weights, by_eager(proxy, oracle, prompt), within)


@everywhere
def test_asking_kept_passages_equals_reading_them_and_equals_eager(kind: str) -> None:
    proxy, oracle = tiny.proxy(kind), tiny.model(kind, "eager")
    asked = prompts(proxy)
    kept = list(proxy.keep(asked, WANT))
    signals = list(proxy.ask(asked, kept, WANT))
    same(signals, list(proxy.read(asked, WANT)))
    for prompt, signal in zip(asked, signals, strict=True):
        close(signal.weights, by_eager(proxy, oracle, prompt))


@everywhere
def test_kept_passages_can_be_asked_again_and_asking_does_not_change_them(kind: str) -> None:
    proxy = tiny.proxy(kind)
    kept = list(proxy.keep(prompts(proxy), WANT))
    before = [[layer.keys.clone() for layer in layers] for layers in kept]
    for question in ("Why?", "Who in the end sat on the mat?"):
        again = prompts(proxy, [(title, text, question) for title, text, _ in TEXTS])
        same(list(proxy.ask(again, kept, WANT)), list(proxy.read(again, WANT)))
    after = [[layer.keys for layer in layers] for layers in kept]
    assert all(
        torch.equal(a, b)
        for x, y in zip(before, after, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@everywhere
@pytest.mark.parametrize("batch_tokens", [1, 60, 150, 10_000])
def test_packed_equals_single_however_much_fits_into_a_batch(kind: str, batch_tokens: int) -> None:
    proxy = tiny.proxy(kind)
    asked = prompts(proxy)
    singles = [signal for prompt in asked for signal in proxy.read([prompt], WANT)]
    proxy.batch_tokens = batch_tokens
    same(list(proxy.read(asked, WANT)), singles)
    same(list(proxy.ask(asked, list(proxy.keep(asked, WANT)), WANT)), singles)


@everywhere
@pytest.mark.parametrize("keep", [True, False])
def test_a_passage_is_not_moved_by_the_passages_beside_it(kind: str, keep: bool) -> None:
    proxy = tiny.proxy(kind)
    one, two = prompts(proxy, TEXTS[:2]), prompts(proxy, [TEXTS[5], TEXTS[1]])
    read = (
        (lambda p: proxy.ask(p, list(proxy.keep(p, WANT)), WANT))
        if keep
        else (lambda p: proxy.read(p, WANT))
    )
    same([list(read(one))[1]], [list(read(two))[1]])


@everywhere
def test_layers_cut_off_on_disk_leave_the_others_as_they_were(kind: str, tmp_path: Path) -> None:
    folder = tiny.save(kind, tmp_path / kind)
    want = Want((0, 1), ("question", "question_mean", "last"))
    cut = Proxy.from_folder(folder, layers=2, dtype="fp32", device="cpu")
    whole = Proxy.from_folder(folder, dtype=torch.float32, device="cpu")
    assert (len(cut.model.layers), len(whole.model.layers)) == (2, tiny.LAYERS)
    assert cut.card == whole.card
    assert (cut.card.name, cut.card.layers, cut.card.heads) == (kind, tiny.LAYERS, tiny.HEADS)
    asked = prompts(cut)
    same(list(cut.read(asked, want)), list(whole.read(asked, want)))
    same(list(cut.ask(asked, list(cut.keep(asked, want)), want)), list(whole.read(asked, want)))
    close(
        next(iter(cut.read(asked, want))).weights,
        by_eager(cut, tiny.model(kind, "eager"), asked[0], (0, 1)),
    )


def test_a_layer_beyond_the_proxy_is_an_error_that_names_the_numbers(tmp_path: Path) -> None:
    proxy = Proxy.from_folder(tiny.save("llama", tmp_path), layers=2, dtype="fp32", device="cpu")
    for layer, way_out in ((2, "load it with layers=3"), (9, "choose a deeper proxy")):
        with pytest.raises(BadInput, match=rf"layer {layer} is wanted .* 2 layers; .*{way_out}"):
            list(proxy.read(prompts(proxy), Want((0, layer))))


@everywhere
def test_layers_after_the_last_wanted_never_run(kind: str) -> None:
    proxy = tiny.proxy(kind)
    asked = prompts(proxy)
    proxy.head()
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
            kept = list(fresh.keep(asked, wants[job]))
            results[job] = [*fresh.read(asked, wants[job]), *fresh.ask(asked, kept, wants[job])]

    threads = [threading.Thread(target=work, args=(job,)) for job in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for job in range(3):
        same(results[job], expected[job] * 2)


def test_readings_taken_in_turns_from_two_wants_do_not_mix() -> None:
    proxy = tiny.proxy(batch_tokens=1)
    asked = prompts(proxy)
    one, two = Want((3,)), Want((0, 1), ("last",))
    turns = list(zip(proxy.read(asked, one), proxy.read(asked, two), strict=True))
    same([a for a, _ in turns], list(proxy.read(asked, one)))
    same([b for _, b in turns], list(proxy.read(asked, two)))


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
    same(list(proxy.read(asked, WANT)), expected)


def test_a_prompt_may_fill_the_context_and_not_one_token_more() -> None:
    proxy = tiny.proxy()
    question = proxy.layout.ask("?")
    room = tiny.CONTEXT - len(proxy.layout.head) - len(question.ids)
    fits, over = (Prompt(proxy.layout.read("x" * n, []), question) for n in (room, room + 1))
    want = Want((0,))
    (signal,) = proxy.read([fits], want)
    assert signal.weights.shape[-1] == room
    for read in (
        lambda: list(proxy.read([over], want)),
        lambda: list(proxy.ask([over], list(proxy.keep([over], want)), want)),
    ):
        with pytest.raises(
            BadInput, match=f"{tiny.CONTEXT + 1} tokens and tiny-llama takes {tiny.CONTEXT}"
        ):
            read()


def test_no_prompts_are_no_signals() -> None:
    proxy = tiny.proxy()
    assert (
        list(proxy.read([], WANT))
        == list(proxy.keep([], WANT))
        == list(proxy.ask([], [], WANT))
        == []
    )


def test_keys_kept_for_another_passage_or_too_few_layers_are_refused() -> None:
    proxy = tiny.proxy()
    asked = prompts(proxy)
    kept = list(proxy.keep(asked, WANT))
    with pytest.raises(BadInput, match="6 prompts and 4 kept"):
        list(proxy.ask(asked, kept[:4], WANT))
    with pytest.raises(BadInput, match=r"prompt 0 needs .* keep the passage again"):
        list(proxy.ask(asked, kept[::-1], WANT))
    with pytest.raises(BadInput, match=r"in 4 layers.* and was given .* in 2"):
        list(proxy.ask(asked[:1], [kept[0][:2]], WANT))


def test_batches_hold_consecutive_prompts_up_to_the_limit_and_a_long_one_alone() -> None:
    assert list(packed(["aa", "b", "cc", "ddddd", "e", "f"], 3)) == [
        ["aa", "b"],
        ["cc"],
        ["ddddd"],
        ["e", "f"],
    ]


@pytest.mark.parametrize("headless", [True, False])
def test_a_model_with_or_without_its_head_and_a_transformers_tokenizer_make_a_proxy(
    headless: bool,
) -> None:
    model = tiny.model("qwen3", "sdpa")
    fast = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer())
    proxy = Proxy.from_model(model.model if headless else model, fast, name="mine", revision="r1")
    assert (proxy.card.name, proxy.card.revision, proxy.layout.template.name) == (
        "mine",
        "r1",
        "chatml",
    )
    asked = prompts(proxy)
    same(list(proxy.read(asked, WANT)), list(tiny.proxy("qwen3").read(asked, WANT)))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(ProxyUnsupported, match="offsets"):
        Proxy.from_model(tiny.model("llama"), object())


def test_a_model_that_caps_its_logits_is_refused_loaded_or_on_disk(tmp_path: Path) -> None:
    with pytest.raises(ProxyUnsupported, match="gemma2 caps its attention logits"):
        Proxy.from_model(tiny.model("gemma2", "eager"), tiny.tokenizer())
    tiny.model("gemma2", "eager").save_pretrained(tmp_path)
    tiny.tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ProxyUnsupported, match="gemma2 caps its attention logits"):
        Proxy.from_folder(tmp_path, dtype="fp32", device="cpu")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"use_bidirectional_attention": True}, "what follows"),
        ({"layer_types": ["linear_attention", "full_attention"] * 2}, "do not attend by softmax"),
    ],
)
def test_a_config_that_is_more_than_causal_softmax_is_refused(
    settings: dict[str, Any], why: str
) -> None:
    config = tiny.model("gemma3").config
    config.__dict__.update(settings)
    with pytest.raises(ProxyUnsupported, match=why):
        readable(config)


def test_an_encoder_is_refused() -> None:
    encoder = BertModel(BertConfig(vocab_size=tiny.VOCAB, hidden_size=64, num_attention_heads=4))
    with pytest.raises(ProxyUnsupported, match="BertModel lets tokens see what follows"):
        Proxy.from_model(encoder, tiny.tokenizer())


def test_a_missing_folder_is_proxy_missing(tmp_path: Path) -> None:
    with pytest.raises(ProxyMissing, match=r"no config\.json"):
        Proxy.from_folder(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llama", tmp_path_factory.mktemp("whole"))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def torn(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lacking(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def reshaped(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.k_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def garbled(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "not-a-model"}))


@pytest.mark.parametrize(
    "damage", [pickled, torn, lacking, reshaped, without_tokenizer, garbled, unknown]
)
def test_a_damaged_or_foreign_folder_is_a_bad_model_file(
    whole: Path, tmp_path: Path, damage: Any
) -> None:
    folder = shutil.copytree(whole, tmp_path / "model")
    damage(folder)
    with pytest.raises(BadModelFile, match="model"):
        Proxy.from_folder(folder, dtype="fp32", device="cpu")


def test_a_revision_changes_with_the_weights_and_not_with_the_folder(
    whole: Path, tmp_path: Path
) -> None:
    def revision(folder: Path) -> str:
        return Proxy.from_folder(folder, layers=1, dtype="fp32", device="cpu").card.revision

    moved = shutil.copytree(whole, tmp_path / "moved")
    assert revision(moved) == revision(whole)
    tensors = load_file(moved / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, moved / "model.safetensors", {"format": "pt"})
    assert revision(moved) != revision(whole)


@pytest.mark.parametrize("layers", [0, -1])
def test_less_than_one_layer_is_bad_input(whole: Path, layers: int) -> None:
    with pytest.raises(BadInput, match=f"layers is {layers}"):
        Proxy.from_folder(whole, layers=layers)


def test_more_layers_than_there_are_load_them_all(whole: Path) -> None:
    assert Proxy.from_folder(whole, layers=99, dtype="fp32", device="cpu").depth == tiny.LAYERS


@pytest.mark.parametrize("name", ["fp8", "float", "nn", "", "FP32"])
def test_an_unknown_dtype_is_bad_input_that_names_the_choices(name: str) -> None:
    with pytest.raises(BadInput, match=r"give auto or one of bf16, .*fp16, fp32"):
        choose_dtype(name, torch.device("cpu"))


def test_dtypes_go_by_their_names_and_auto_is_one_of_them() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("bf16", cpu) is choose_dtype("bfloat16", cpu) is torch.bfloat16
    assert choose_dtype("fp32", cpu) is choose_dtype(torch.float32, cpu) is torch.float32
    assert choose_dtype("auto", cpu) in {torch.float32, torch.bfloat16}


def test_an_unknown_device_is_bad_input() -> None:
    with pytest.raises(BadInput, match="device is 'gpu'"):
        choose_device("gpu")


@pytest.mark.parametrize("name", ["plain", "sentinel"])
def test_other_templates_read_as_faithfully(name: str) -> None:
    proxy = tiny.proxy("gemma3", template=TEMPLATES[name])
    asked = prompts(proxy)
    for prompt, signal in zip(asked, proxy.read(asked, WANT), strict=True):
        close(signal.weights, by_eager(proxy, tiny.model("gemma3", "eager"), prompt))
