"""An index that keeps its chunks answers without reading any, and never with damaged bytes."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tamis.compressors.reading.windows import read_windows, split_windows
from tamis.probes.errors import BadIndex, BadInput, TamisError
from tamis.probes.kv_cache import retrieved
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.retrieved import ExactKeys
from tamis.probes.model.encoder import Encoder
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.retrieval.storage.segment import find_faults
from tamis.service.api import kept_chunks
from tamis.service.api.ask_context import ask_context
from tamis.service.api.index import index_settings, load_readers
from tamis.service.api.kept_chunks import STORAGE, ChunkKeeper, KeptPassages, keeps_for, load_keeper
from tamis.text.types import CorpusDocument, Passage
from tamis.text.units.segment import units_of
from tests.probes.kv_cache.cache_kit import assert_close, versioned_proxy
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.retrieval.keys.test_encoder import recipe_for
from tests.service.cli.cli_kit import tamis

WANT = Want((0, 1, 2, 3))
SETTINGS = IndexSettings(chunk_chars=120, kv={"model": "tiny", "arithmetic": "torch.float32"})
DOCUMENTS = [
    CorpusDocument(f"d{i}", f"Water {i} is wet. The cat {i} sat on the mat. " * (1 + i % 4), title)
    for i, title in enumerate((None, "Cats", "Long", None, "The end", None))
]


@pytest.fixture(scope="module")
def models():
    proxy = versioned_proxy()
    return ChunkModels(kv=ChunkKeeper(proxy, proxy.depth, "en"))


@pytest.fixture
def home(tmp_path, models) -> Path:
    with create_index(tmp_path / "i", SETTINGS, models) as writer:
        writer.put(DOCUMENTS)
        writer.finish()
    return tmp_path / "i"


def test_one_model_of_keys_and_kept_values_reads_each_chunk_once(tmp_path, models, monkeypatch):
    proxy, read = models.kv.proxy, []
    compute_kv = proxy.compute_kv

    def count_runs(prompts, want):
        read.extend(prompts)
        return compute_kv(prompts, want)

    monkeypatch.setattr(proxy, "compute_kv", count_runs)
    keys = KeyEncoder(proxy, recipe_for(proxy))
    settings = replace(SETTINGS, keys=json.loads(json.dumps(keys.recipe.as_json())))
    found = {}
    for name, keeper in (
        ("once", models.kv),
        ("twice", ChunkKeeper(copy(proxy), proxy.depth, "en")),
    ):
        read.clear()
        with create_index(tmp_path / name, settings, ChunkModels(keys, kv=keeper)) as writer:
            writer.put(DOCUMENTS)
            writer.finish()
        index = CorpusIndex.open(tmp_path / name)
        every, starts = index.segments[0].keys()
        found[name] = (every.tobytes(), starts.tobytes())
        assert len(read) == (1 if name == "once" else 2) * len(index)
        assert find_faults(tmp_path / name) == []
    assert found["once"] == found["twice"]


def live_passages(index) -> list[Passage]:
    hits = index.search("water cat mat wet end end", 1000)
    assert len(hits) == len(index)
    return [Passage(hit.text, hit.id, hit.title_line) for hit in hits]


def read_chunks(index, models):
    """A reading of every chunk by what the index keeps, and the weights without an index."""
    proxy, passages = models.kv.proxy, live_passages(index)
    units = units_of(passages, "en")
    ask = proxy.layout.question_tokens("Who sat?")
    prompts = [Prompt(w.tokens, ask) for w in split_windows(proxy.layout, passages, units)]
    source = KeptPassages(index.segments)
    kept = CachedReader(proxy, PassageCache(storage=STORAGE, source=source))
    own = CachedReader(proxy, PassageCache(storage=STORAGE))
    list(own.read(prompts, WANT))
    return list(kept.read(prompts, WANT)), list(own.read(prompts, WANT)), prompts


def check_all_warm(index, models):
    kept, own, prompts = read_chunks(index, models)
    assert [s.cached_tokens for s in kept] == [len(p.passage.ids) for p in prompts]
    assert_close([s.weights for s in kept], [s.weights for s in own])


def test_every_chunk_is_found_as_a_cache_of_that_storage_would_have_kept_it(home, models):
    check_all_warm(CorpusIndex.open(home), models)


def test_what_is_added_replaced_deleted_and_merged_keeps_what_is_live(home, models):
    changed = CorpusDocument("d1", "The cat in the end was wet. Water again. " * 3, "Cats")
    with open_writer(home, models) as writer:
        writer.put([changed, CorpusDocument("new", "A mat is no water. The cat went.")])
        writer.delete(["d2"])
    check_all_warm(CorpusIndex.open(home), models)
    with open_writer(home) as writer:  # no model reads anything again
        writer.compact()
    merged = CorpusIndex.open(home)
    check_all_warm(merged, models)
    assert len(merged.segments) == 1
    assert len(KeptPassages(merged.segments)) == len(merged)  # nothing of what was deleted
    assert find_faults(home) == []


def test_a_chunk_that_is_not_kept_is_read(home, models):
    with open_writer(home, ChunkModels()) as writer:
        writer.put([CorpusDocument("unread", "Water and the cat. The mat is wet.")])
    index = CorpusIndex.open(home)
    kept, own, _ = read_chunks(index, models)
    assert sum(not s.cached_tokens for s in kept) == 1
    with open_writer(home) as writer:
        writer.compact()
    again, _, _ = read_chunks(CorpusIndex.open(home), models)
    assert sum(not s.cached_tokens for s in again) == 1
    assert len(own) == len(kept)


def test_another_model_finds_nothing(home, models):
    proxy = versioned_proxy(revision="r2")
    passages = live_passages(CorpusIndex.open(home))
    source = KeptPassages(CorpusIndex.open(home).segments)
    reader = CachedReader(proxy, PassageCache(storage=STORAGE, source=source))
    units = units_of(passages, "en")
    pooled = read_windows(
        reader, "Who?", passages, units, WANT, lambda s, spans: s.pool(spans).flatten(1)
    )
    assert pooled.tokens_cached == 0 < pooled.tokens_read


def test_what_is_kept_is_for_one_proxy_by_whatever_it_is_given(home, models):
    """Another model of the zoo would be kept in fewer bits than it was measured with."""
    index = CorpusIndex.open(home)
    assert keeps_for(index, "tiny")
    assert keeps_for(index, models.kv.proxy)
    assert keeps_for(index, home / "a-folder"), "which may hold that model"
    assert not keeps_for(index, "qwen2.5-coder-0.5b-sharp")
    assert not keeps_for(index, versioned_proxy(dtype=torch.bfloat16))
    for other in (None, {"model": "tiny"}):  # no chunks, and keys without the arithmetic
        without = replace(index.manifest.settings, kv=other)
        index.manifest = replace(index.manifest, settings=without)
        assert not keeps_for(index, "tiny")


def test_chunks_read_in_another_arithmetic_are_not_found(tmp_path):
    proxy = versioned_proxy(dtype=torch.bfloat16)
    plain, layout = versioned_proxy(dtype=torch.bfloat16), proxy.layout
    tokenizer = layout.tokenizer._plain
    int8 = Proxy(plain.body, tokenizer, plain.card, layout.template, in_int8=True)
    models = ChunkModels(kv=ChunkKeeper(proxy, proxy.depth, "en"))
    with create_index(tmp_path / "i", SETTINGS, models) as writer:
        writer.put(DOCUMENTS)
        writer.finish()
    index = CorpusIndex.open(tmp_path / "i")
    passages, source = live_passages(index), KeptPassages(index.segments)
    ask, units = layout.question_tokens("Who sat?"), units_of(passages, "en")
    prompts = [Prompt(w.tokens, ask) for w in split_windows(layout, passages, units)]
    for reader, is_warm in ((proxy, True), (int8, False)):
        cache = PassageCache(storage=STORAGE, source=source)
        cached = [
            signal.cached_tokens for signal in CachedReader(reader, cache).read(prompts, WANT)
        ]
        assert cached == [len(prompt.passage.ids) * is_warm for prompt in prompts]


RETRIEVED = {"read": "retrieved", "probe": None, "gate": False, "use_encoder": False}
QUESTION = "Water: who sat on the mat in the end?"


def ask_retrieved(index, proxy, **more):
    return ask_context(index, QUESTION, max_tokens=60, proxy=proxy, **{**RETRIEVED, **more})


def scores_of(asked):
    """The score of every chunk, by its id."""
    assert asked.compressed is not None
    return dict(zip((hit.id for hit in asked.hits), asked.compressed.passage_scores, strict=True))


def test_all_keys_by_a_search_of_the_index_and_by_every_selector_are_one_reading(home, models):
    index, proxy = CorpusIndex.open(home), models.kv.proxy
    asked = ask_retrieved(index, proxy, top_k=100)
    assert asked.reading == "warm"
    assert asked.tokens_cached >= asked.tokens_in > asked.tokens_out > 0
    texts = {document.id: document.text for document in DOCUMENTS}
    for citation in asked.citations:
        assert citation.text == texts[citation.doc][citation.start : citation.stop]
    scores = scores_of(asked)
    assert len(set(scores.values())) > 2
    for more in (
        {"selector": "exact"},
        {"selector": "exact", "keys": 10**6},
        {"top_k": 100, "keys": 10**6},
    ):
        assert scores_of(ask_retrieved(index, proxy, **more)) == pytest.approx(scores, abs=1e-5)
    few = scores_of(ask_retrieved(index, proxy, selector="exact", keys=2))
    assert few != pytest.approx(scores, abs=1e-4)


def test_what_the_question_attends_to_is_what_was_found(home, models):
    """The chunks of a search, or those whose metadata meet a condition."""
    index, proxy = CorpusIndex.open(home), models.kv.proxy
    assert len(ask_retrieved(index, proxy, top_k=2).hits) == 2
    assert len(ask_retrieved(index, proxy, selector="exact").hits) == len(index)
    assert ask_retrieved(index, proxy, selector="exact", where="lang=en").hits == ()


def test_a_selector_is_trained_in_one_run_over_all_layers(home, models, monkeypatch):
    runs, trained, run = [], [], kept_chunks.question_states

    def count_runs(proxy, asked, layers, tokens):
        runs.append((asked, tokens))
        return run(proxy, asked, layers, tokens)

    class Trained(ExactKeys):
        def __init__(self, keys, train):
            super().__init__(keys, train)
            trained.append(train)

    index, proxy = CorpusIndex.open(home), models.kv.proxy
    exact = scores_of(ask_retrieved(index, proxy, selector="exact", keys=2))
    monkeypatch.setattr(kept_chunks, "question_states", count_runs)
    for module in (kept_chunks, retrieved):  # what builds it, and what looks whether there is one
        monkeypatch.setattr(module, "find_selector", lambda name: Trained)
    found = scores_of(ask_retrieved(index, proxy, selector="trained", keys=2))
    assert found == pytest.approx(exact, abs=1e-5)
    [(asked, tokens)] = runs
    second = [states[0] for states in run(proxy, asked, [1], tokens)]
    heads = int(proxy.config.num_key_value_heads)
    own = torch.cat([states.reshape(heads, -1, states.shape[-1]) for states in second], 1)
    assert torch.equal(torch.stack(trained[heads : 2 * heads]), own)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"read": "all"}, "read is 'all'; give one of passages, retrieved"),
        ({"read": "passages", "keys": 5}, "read is 'passages'; give that, or leave them out"),
        ({"keys": 0}, "keys is 0; give at least 1, or leave it out for all"),
        ({"selector": "nearest"}, "no selector 'nearest'; there are: exact"),
        ({"selector": "nearest", "keys": 5}, "no selector 'nearest'; there are: exact"),
    ],
)
def test_a_reading_that_cannot_be_is_refused(home, models, more, why):
    with pytest.raises(TamisError, match=why):
        ask_retrieved(CorpusIndex.open(home), models.kv.proxy, **more)


def test_a_method_without_a_model_attends_to_nothing_that_is_kept(home):
    with pytest.raises(BadInput, match="lexical reads no keys and values; leave out read"):
        ask_context(home, QUESTION, method="lexical", read="retrieved")


def test_an_index_that_keeps_no_values_says_how_to_build_one_that_does(tmp_path, home, models):
    with create_index(tmp_path / "bare", IndexSettings()) as writer:
        writer.put(DOCUMENTS)
        writer.finish()
    with pytest.raises(BadInput, match=r"bare keeps no keys and values as .*--keep-kv"):
        ask_retrieved(tmp_path / "bare", models.kv.proxy)
    other = versioned_proxy(dtype=torch.bfloat16)
    with pytest.raises(BadInput, match=r"in torch.bfloat16 reads them \(but as tiny in torch.flo"):
        ask_retrieved(home, other)
    with open_writer(home, ChunkModels()) as writer:  # which keeps nothing of what is added
        writer.put([CorpusDocument("unread", "Water and the cat. The mat is wet.")])
    with pytest.raises(BadInput, match=r"of a chunk of \d+ tokens as it is read here"):
        ask_retrieved(home, models.kv.proxy)


def test_an_index_of_an_earlier_tamis_is_not_added_to_and_the_error_says_the_way_out():
    with pytest.raises(BadIndex, match=r"without the arithmetic.*--overwrite"):
        load_keeper(IndexSettings(kv={"model": "smollm2-135m", "layers": 4, "revision": "r"}))


def test_a_damaged_byte_is_named_and_never_asked(home, models):
    (file,) = home.glob("segments/*/kv.bin")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert any("kv.bin" in fault for fault in find_faults(home))
    with pytest.raises(BadIndex, match="damaged"):
        read_chunks(CorpusIndex.open(home), models)


def write_corpus(folder: Path) -> Path:
    rows = folder / "rows.jsonl"
    filler = "Nothing of note happened that year. People went about their work as before. "
    texts = {
        "harbour": filler * 3 + "The old harbour of Malo was closed in 1907. " + filler,
        "bread": "Bread was cheap then. A loaf cost two pennies. " + filler * 4,
        "empty": " ",
    }
    rows.write_text("\n".join(json.dumps({"id": i, "text": t}) for i, t in texts.items()))
    return rows


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_an_index_built_to_keep_its_chunks_answers_warm_and_alike(tmp_path):
    rows, answers = write_corpus(tmp_path), {}
    for kind, extra in {"cold": (), "warm": ("--keep-kv",)}.items():
        home = tmp_path / kind
        built = tamis("index", "build", rows, "-o", home, "--chunk-chars", 300, *extra)
        assert built.exit_code == 0, built.output
        question = ("-q", "When was the old harbour of Malo closed?", "--max-tokens", 40)
        keep = ("--no-cache",) if kind == "cold" else ()
        done = tamis("ask-context", home, *question, *keep, "--json")
        assert done.exit_code == 0, done.output
        answers[kind] = json.loads(done.stdout)
        assert answers[kind]["reading"] == kind
        assert "closed in 1907" in answers[kind]["text"]
    joint = tamis("ask-context", tmp_path / "warm", *question, "--read", "retrieved", "--json")
    assert joint.exit_code == 0, joint.output
    assert "closed in 1907" in json.loads(joint.stdout)["text"]
    cold, warm = (answers[kind]["usage"] for kind in ("cold", "warm"))
    assert cold["cached_tokens"] == 0
    assert warm["cached_tokens"] + warm["read_tokens"] == cold["read_tokens"]


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder", "encoder_folder")
def test_the_encoder_reads_no_unit_of_a_kept_chunk(tmp_path, monkeypatch):
    encoded: list[str] = []
    encode = Encoder.encode

    def record(encoder, texts, *rest):
        encoded.extend(texts)
        return encode(encoder, texts, *rest)

    rows = write_corpus(tmp_path)
    question = "When was the old harbour of Malo closed?"
    answers = {}
    for kind, extra in {"cold": (), "warm": ("--keep-kv",)}.items():
        home = tmp_path / kind
        built = tamis("index", "build", rows, "-o", home, "--chunk-chars", 300, *extra)
        assert built.exit_code == 0, built.output
        with open_writer(home) as writer:  # merging reads nothing and keeps what was kept
            writer.compact()
        encoded.clear()
        monkeypatch.setattr(Encoder, "encode", record)
        answer = ask_context(home, question, max_tokens=40, gate=False)
        answers[kind] = (answer, list(encoded))
        monkeypatch.setattr(Encoder, "encode", encode)
    (cold, read_cold), (warm, read_warm) = answers["cold"], answers["warm"]
    assert read_warm == [question]
    assert set(read_cold) > {question}
    assert [c.text for c in warm.citations] == [c.text for c in cold.citations]
    assert find_faults(tmp_path / "warm") == []


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_an_index_made_without_an_encoder_is_added_to_without_one(tmp_path, encoder_folder):
    settings = index_settings(keep_kv=True)
    assert settings.kv is not None
    assert settings.keys is not None
    assert settings.keys["model"] == settings.kv["model"] == "smollm2-135m-sharp"
    assert load_readers(settings).read_once
    apart = index_settings(keep_kv=True, proxy="smollm2-135m")
    assert apart.keys is not None
    assert apart.keys["model"] == "smollm2-135m"
    assert not load_readers(apart).read_once
    assert settings.kv["encoder"] == Encoder.from_folder(encoder_folder).identity
    assert load_keeper(settings).encoder is not None
    for name in ("float32", "bfloat16"):  # whatever this processor would choose
        keeper = load_keeper(replace(settings, kv={**settings.kv, "arithmetic": f"torch.{name}"}))
        assert keeper.proxy.arithmetic == f"torch.{name}"
    without = {name: value for name, value in settings.kv.items() if name != "encoder"}
    for older in (without, {**without, "encoder": None}):  # made by an earlier version, or here
        assert load_keeper(replace(settings, kv=older)).encoder is None
    with pytest.raises(BadIndex, match=r"vectors of minilm-l6 at other .*--overwrite"):
        load_keeper(replace(settings, kv={**settings.kv, "encoder": "other mean"}))
