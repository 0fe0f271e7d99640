"""Whatever runs on the CPU runs on a card, and says the same; see `pretend_device`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tamis.compressors import registry
from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.embedding import Embedding
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.compressors.registry import build_method, method_class, method_info
from tamis.probes.attention import batched
from tamis.probes.hub.zoo import load_proxy
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.encoder import Encoder
from tamis.probes.model.proxy import Proxy
from tamis.probes.signal import Want
from tamis.retrieval.index.models import ChunkModels, QuestionModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.service.api.kept_chunks import ChunkKeeper
from tamis.service.batch.row_compressor import PooledReader
from tamis.service.http.runtime.methods import ServedMethods
from tamis.service.http.runtime.settings import Settings
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.features.test_stages import gate_probe
from tests.laws.methods import head_profile, question_probe, sentinel_probe
from tests.pretend_device import MixedDevices, PretendDevice, varlen_stand_in
from tests.probes import tiny
from tests.probes.hub.test_adapters import make_adapters
from tests.probes.kv_cache.cache_kit import make_prompts
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.retrieval.index.corpora import DOCUMENTS
from tests.retrieval.keys.test_encoder import as_lists, recipe_for

KINDS = ("cuda", "mps")
OURS = ("llama", "qwen2", "qwen3")
DTYPES = {"float32": 2e-4, "float16": 5e-3, "bfloat16": 5e-2}
"""How far weights and scores may be from those of the CPU, in each dtype."""
QUESTION = "When was the bridge opened? Who opened it?"
PASSAGES = [
    Passage("The bridge is old. It was opened in 1792 by the duke."),
    Passage("Cheese ripens for a year. Caves are cool."),
    Passage("It rains. The hills are green and the inn is shut.", title="Hills"),
]
UNITS = units_of(PASSAGES, "en")
WANT = Want((0, 1, 2, 3), ("question", "question_mean", "sentence_means", "last"))

every_device = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module", name="folders")
def tiny_folders(tmp_path_factory) -> Mapping[str, Path]:
    """A tiny model of each architecture, on disk."""
    home = tmp_path_factory.mktemp("models")
    return {kind: tiny.save(kind, home / kind) for kind in OURS}


def on_both(kind: str, task: Callable[[], Any], **card: Any) -> tuple[Any, Any, PretendDevice]:
    """What a task returns on the CPU, and on a card; and the card."""
    here = task()
    with PretendDevice(kind, **card) as device:
        there = task()
    return here, there, device


def assert_same(here: Any, there: Any, within: float = 2e-4) -> None:
    """The same numbers to rounding, in nested sequences and tensors."""
    if isinstance(here, torch.Tensor):
        torch.testing.assert_close(
            there.float(), here.float(), atol=within, rtol=within, equal_nan=True
        )
    elif isinstance(here, np.ndarray):
        np.testing.assert_allclose(there, here, atol=within, rtol=within)
    elif isinstance(here, list | tuple):
        assert len(here) == len(there)
        for one, other in zip(here, there, strict=True):
            assert_same(one, other, within)
    elif isinstance(here, float):
        assert there == pytest.approx(here, abs=within, rel=within, nan_ok=True)
    else:
        assert here == there


def host(value: Any) -> Any:
    """A result as a caller has it: tensors on the host."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    return [host(one) for one in value] if isinstance(value, list | tuple) else value


def proxy_of(folder: Path, dtype: str = "float32") -> Proxy:
    """The proxy where `auto` puts it, by the code that loads every proxy."""
    return Proxy.from_folder(folder, dtype=dtype)


def weights_of(reader: Any, prompts: Any, want: Want = WANT) -> list[torch.Tensor]:
    return host([signal.weights for signal in reader.read(prompts, want)])


# ---------------------------------------------------------------------- the double itself


@every_device
def test_tensors_of_two_devices_in_one_call_are_found(kind):
    with PretendDevice(kind):
        there, here = torch.ones(2, device=kind), torch.ones(2)
        for mix in (
            lambda: there + here,
            lambda: torch.cat([there, here]),
            lambda: here.add_(there),
            lambda: torch.matmul(there, here),
            lambda: here[there.long()],
            lambda: there.index_select(0, here.long()),
            lambda: torch.where(there > 0, there, here),
        ):
            with pytest.raises(MixedDevices):
                mix()
        for read in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises(TypeError, match="numpy"):
                read()


@every_device
def test_numbers_and_indices_of_the_host_are_taken_as_torch_takes_them(kind):
    with PretendDevice(kind) as device:
        there = torch.arange(4, device=kind)
        assert (there * torch.tensor(2.0)).device.type == kind
        assert there[torch.tensor([0, 2])].tolist() == [0, 2]
        assert there.cpu().device.type == "cpu"
        assert torch.ones(2).to(there).device == there.device
        assert torch.nn.Parameter(there.float()).device == there.device
        assert torch.nn.Linear(2, 2).to(kind).weight.device == there.device
    assert device.sync_calls["index from the host"] == 1


def test_only_mps_refuses_float64():
    for kind in KINDS:
        with PretendDevice(kind):
            there = torch.ones(2, device=kind)
            for widen in (
                there.double,
                partial(there.to, torch.float64),
                partial(torch.zeros, 2, dtype=torch.float64, device=kind),
                partial(torch.ones(2, dtype=torch.float64).to, kind),
            ):
                if kind == "mps":
                    with pytest.raises(TypeError, match="float64"):
                        widen()
                else:
                    assert widen().dtype == torch.float64


def test_launches_and_waits_are_counted():
    with PretendDevice("cuda") as device:
        there = torch.ones(4, 4, device="cuda")
        device.reset()
        there.transpose(0, 1)[1:].view(3, 4, 1).expand(-1, -1, 2)
        assert (device.launches, device.syncs) == (0, 0)
        ((there + 1) @ there).mul_(2)
        assert (device.launches, device.syncs) == (3, 0)
        for wait in (
            there.cpu,
            lambda: there.sum().item(),
            lambda: bool(there.any()),
            lambda: float(there[0, 0]),
            there.nonzero,
            lambda: there[there > 0],
            there.tolist,
            lambda: torch.tensor([1, 2], device="cuda"),
            lambda: torch.ones(2).to("cuda"),
            lambda: torch.ones(2).to("cuda", non_blocking=True),
        ):
            device.reset()
            wait()
            assert device.syncs == 1, wait
        device.reset()
        torch.ones(2).pin_memory().to("cuda", non_blocking=True)
        assert device.syncs == 0


# ---------------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16)],
)
def test_bf16_is_for_cards_that_multiply_it(folders, capability, dtype):
    """Torch emulates it on a T4 or V100, at a fraction of the speed of fp16."""
    with PretendDevice("cuda", capability=capability):
        proxy = Proxy.from_folder(folders["llama"])
        assert (proxy.device, proxy.dtype) == (torch.device("cuda", 0), dtype)


def test_auto_takes_mps_in_fp16(folders):
    with PretendDevice("mps"):
        proxy = Proxy.from_folder(folders["llama"])
        assert (proxy.device.type, proxy.dtype) == ("mps", torch.float16)


# ---------------------------------------------------------------------- reading


@every_device
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", OURS)
def test_every_architecture_reads_in_every_dtype(folders, kind, dtype, architecture):
    def task():
        proxy = proxy_of(folders[architecture], dtype)
        plain = weights_of(proxy, make_prompts(proxy))
        method = QuestionRows(proxy, question_probe(proxy), gate=False, rank_probe=None)
        return plain, list(method.scores(QUESTION, PASSAGES, UNITS).values)

    here, there, _ = on_both(kind, task)
    assert_same(here, there, DTYPES[dtype])


@every_device
def test_a_model_that_transformers_runs(kind, tmp_path):
    """A window of 8 tokens in every other layer, and angles for each kind of layer."""
    folder = tiny.save("gemma3", tmp_path / "gemma3")

    def task():
        proxy = proxy_of(folder)
        proxy.model  # noqa: B018 - from here on transformers runs it
        reader = CachedReader(proxy, PassageCache())
        prompts = make_prompts(proxy)
        return [weights_of(one, prompts) for one in (proxy, reader, reader)]

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


@every_device
def test_adapters_are_merged_where_the_model_is(folders, kind):
    base = folders["llama"]
    adapters = make_adapters(Proxy.from_folder(base, device="cpu", dtype="float32"), str(base))

    def task():
        proxy = proxy_of(base)
        before = weights_of(proxy, make_prompts(proxy))
        return before, weights_of(adapters.apply_to(proxy), make_prompts(proxy))

    here, there, _ = on_both(kind, task)
    assert_same(here, there)


@pytest.mark.parametrize("version", ["2.10", "2.11", "2.12"])
@pytest.mark.parametrize("architecture", OURS)
def test_every_torch_reads_packed_sequences_on_ampere(folders, version, architecture):
    def task():
        proxy = proxy_of(folders[architecture], "bfloat16")
        reader = CachedReader(proxy, PassageCache())
        prompts = make_prompts(proxy)
        return weights_of(proxy, prompts), weights_of(reader, prompts), weights_of(reader, prompts)

    card = {"capability": (8, 0), "varlen": varlen_stand_in(version)}
    here, there, device = on_both("cuda", task, **card)
    assert_same(here, there, 5e-2)
    assert bool(device.launch_calls["varlen_attn"]) == (version == "2.12")


def test_the_kernel_that_is_installed_has_the_options_of_the_stand_in():
    installed = batched.varlen_kernel()  # None in a torch that is too old
    known = set(inspect.signature(varlen_stand_in("2.12")).parameters)
    assert installed is None or known <= set(inspect.signature(installed).parameters)


@every_device
@pytest.mark.parametrize("storage", ["exact", "int8", "thin"])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_kept_passages_are_asked_again(folders, kind, storage, where, tmp_path):
    within = 2e-3 if storage in ("exact", "int8") else 5e-2
    check_kept_passages(folders["llama"], kind, where, tmp_path, within, storage=storage)


def check_kept_passages(model, kind, where, tmp_path, within, **options):
    """Passages that are read, kept in memory or on disk, and asked again say the same on a card."""

    def task():
        proxy = proxy_of(model)
        folder = tmp_path / ("card" if proxy.device.type == kind else "host")
        answers = []
        for _ in range(2):
            home = folder if where == "disk" else None
            cache = PassageCache(folder=home, **options)
            answers.append(weights_of(CachedReader(proxy, cache), make_prompts(proxy)))
            answers.append(weights_of(CachedReader(proxy, cache), make_prompts(proxy)))
        return answers

    here, there, _ = on_both(kind, task)
    assert_same(here, there, within)


@every_device
@pytest.mark.parametrize("cached", [False, True])
def test_a_reading_pauses_and_goes_on(folders, kind, cached):
    def task():
        proxy = proxy_of(folders["llama"])
        reader = CachedReader(proxy, PassageCache()) if cached else proxy
        prompts = make_prompts(proxy)[:2]
        answers = []
        for _ in range(2):
            first = list(reader.read(prompts, Want((0, 1), pause=True)))
            pairs = zip(prompts, first, strict=True)
            paused = [replace(prompt, paused=signal.paused) for prompt, signal in pairs]
            rest = list(reader.read(paused, Want((2, 3))))
            answers.append([signal.weights for signal in (*first, *rest)])
        return host(answers)

    here, there, _ = on_both(kind, task)
    assert_same(here, there)


# ---------------------------------------------------------------------- methods


class TinyModels:
    """A tiny proxy and the shipped encoder's stand-in, as methods ask for them."""

    vector_source = None

    def __init__(self, proxy: Proxy) -> None:
        self.proxy, self.proxy_name = proxy, proxy.card.name

    def reader(self, layers: int | None) -> Proxy:
        return self.proxy

    def encoder(self) -> Any:
        raise AssertionError("no encoder is built here")

    def rank_encoders(self) -> tuple[()]:
        return ()

    def cross_encoder(self, name: str) -> Any:
        raise AssertionError("no cross-encoder is built here")


def _with_probe(proxy: Proxy, **options: Any) -> QuestionRows:
    options = {"gate": False, "rank_probe": None, **options}
    return QuestionRows(proxy, question_probe(proxy), **options)


def _default(name: str, proxy: Proxy) -> Any:
    return method_class(name).build(TinyModels(proxy), {})


BUILDERS: dict[str, Callable[[Proxy], Any]] = {
    "question_rows": _with_probe,
    "question_rows without a probe": lambda p: QuestionRows(p, None),
    "question_rows isolated": lambda p: _with_probe(p, isolated=True),
    "question_rows by a gate": lambda p: _with_probe(
        p, gate=gate_probe(p, (1, 0.5, 1.0), (2, 0.2, 1.0))
    ),
    "question_rows isolated by a gate": lambda p: _with_probe(
        p, isolated=True, gate=gate_probe(p, (1, 0.5, 1.0))
    ),
    "sentinel": lambda p: Sentinel(p, sentinel_probe(p)),
    "ehpc": lambda p: EHPC(p, head_profile(p)),
    "ehpc by token": lambda p: EHPC(p, head_profile(p), form="token"),
    "ehpc together": lambda p: EHPC(p, head_profile(p), together=True),
    "infiniretri": lambda p: InfiniRetri(p, window_tokens=40, heads=0),
    "infiniretri independent": lambda p: InfiniRetri(p, "independent", window_tokens=40, heads=0),
    "fusion": lambda p: Fusion({"attention": _with_probe(p), "lexical": Lexical()}),
}
WITHOUT_A_PROXY = set("cross embedding late_interaction lexical lead edges original".split())
OURS_BY_NAME = set(registry.METHODS.names()) - set(registry.LAB_METHODS)
METHODS = sorted({*BUILDERS, *OURS_BY_NAME} - WITHOUT_A_PROXY)


def answer_of(method: Any) -> list[Any]:
    """Everything that a method says of the passages."""
    answer: list[Any] = []
    if hasattr(method, "scores"):
        answer.append(list(method.scores(QUESTION, PASSAGES, UNITS).values))
    if hasattr(method, "rank"):
        answer.append(list(method.rank(QUESTION, PASSAGES, UNITS).values))
    if hasattr(method, "order"):
        answer.append(list(method.order(QUESTION, PASSAGES, UNITS)))
    assert answer
    return answer


def test_what_is_left_out_has_no_proxy():
    assert not [name for name in WITHOUT_A_PROXY if method_info(name).needs_proxy]


@every_device
@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_on_a_card_what_it_says_here(folders, kind, name):
    def task():
        proxy = proxy_of(folders["llama"])
        return answer_of(BUILDERS.get(name, partial(_default, name))(proxy))

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


# ---------------------------------------------------------------------- the real models


@pytest.mark.model
@pytest.mark.parametrize(
    ("kind", "model", "options"),
    [
        ("cuda", "smollm2-135m", {}),
        ("cuda", "smollm2-135m-sharp", {}),
        ("cuda", "smollm2-135m-sharp", {"isolated": True}),
        ("cuda", "smollm2-135m-sharp", {"use_encoder": False}),
        ("mps", "smollm2-135m-sharp", {}),
    ],
    ids=str,
)
def test_the_default_method_with_its_own_weights(
    encoder_folder, rank_encoder_folder, kind, model, options
):
    """Of the second model's windows some are stopped by the gate that ships for it."""

    def task():
        proxy = load_proxy(model, layers=20, dtype="float32")
        encoder, rank_encoder = (
            Encoder.from_folder(folder, dtype="float32")
            for folder in (encoder_folder, rank_encoder_folder)
        )
        method = build_method(proxy=proxy, encoder=encoder, rank_encoders=[rank_encoder], **options)
        return answer_of(method)

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


@pytest.mark.model
@every_device
@pytest.mark.parametrize("pooling", ["mean", "weighted_mean", "last", "all_layers", "ditto"])
def test_the_sentence_encoder_with_every_pooling(encoder_folder, kind, pooling):
    def task():
        encoder = Encoder.from_folder(encoder_folder, dtype="float32").with_pooling(pooling)
        vectors = encoder.encode([QUESTION, "", "Boats pass below."])
        assert vectors.device.type == "cpu"
        return vectors, list(Embedding(encoder).scores(QUESTION, PASSAGES, UNITS).values)

    here, there, _ = on_both(kind, task)
    assert_same(here, there)


@pytest.mark.model
@pytest.mark.parametrize("wrap", [None, "cache", "pool"])
def test_the_encoder_of_a_method_is_loaded_to_where_its_proxy_is(folders, encoder_folder, wrap):
    with PretendDevice("cuda", count=2):
        for device in ("cpu", "cuda:1"):
            proxy = Proxy.from_folder(folders["llama"], device=device, dtype="float32")
            reader = CachedReader(proxy, PassageCache()) if wrap else proxy
            reader = PooledReader(reader) if wrap == "pool" else reader
            encoder = build_method("embedding", proxy=reader).encoder
            assert getattr(encoder, "encoder", encoder).model.device == torch.device(device)


@pytest.mark.model
def test_the_models_of_an_index_are_loaded_to_where_they_are_asked_for(folders, encoder_folder):
    with PretendDevice("cuda", count=2):
        there = Proxy.from_folder(folders["llama"], device="cuda:1", dtype="float32")
        recipe = recipe_for(there)
        for given, device in (
            (folders["llama"], "cpu"),
            (folders["llama"], "cuda:1"),
            (there, "cpu"),
        ):
            models = QuestionModels(given, None, None, device)
            want = torch.device("cuda:1" if given is there else device)
            assert models.encoder("minilm-l6").model.device == want
            assert models.key_encoder(recipe).proxy.device == want


@pytest.mark.model
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_service_loads_its_encoder_to_its_device(folders, encoder_folder, device):
    with PretendDevice("cuda"):
        proxy = Proxy.from_folder(folders["llama"], device=device, dtype="float32")
        methods = ServedMethods(Settings(device=device, method="embedding"), proxy)
        encoder = methods.scorer("embedding").encoder
        while not isinstance(encoder, Encoder):
            encoder = getattr(encoder, "encoder", None) or encoder._encoder
        assert encoder.model.device.type == device


# ---------------------------------------------------------------------- retrieval


@every_device
def test_an_index_is_built_and_searched(folders, kind, tmp_path):
    def task():
        proxy = proxy_of(folders["llama"])
        home = tmp_path / proxy.device.type
        keys = KeyEncoder(proxy, recipe_for(proxy))
        models = ChunkModels(keys, None, ["When?"], ChunkKeeper(proxy, proxy.depth, "en"))
        settings = IndexSettings(
            keys=as_lists(keys.recipe.as_json()),
            chunk_chars=60,
            kv={"model": "tiny", "layers": proxy.depth},
        )
        with create_index(home, settings, models) as writer:
            writer.put(DOCUMENTS)
            writer.finish()
        index = CorpusIndex.open(home, proxy=proxy)
        encoded = [keys.encode_question(QUESTION), *keys.encode_chunks(["The quay."], ["Malo"])]
        hits = index.search("When was the harbour closed?", 5)
        return encoded, [(hit.id, float(hit.score)) for hit in hits]

    (encoded, hits), (encoded_there, hits_there), _ = on_both(kind, task)
    assert_same(encoded, encoded_there, 1.01e-2)
    assert_same(hits, hits_there, 1e-2)
