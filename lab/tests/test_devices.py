"""What the lab runs on the CPU runs on a card, and says the same; see `tests/pretend_device.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from lab.tests.methods.prefill import prefill_kit
from lab.tests.train.codec.test_fitting import fit, records
from lab.tests.train.test_head_selection import WORDS
from tamis.compressors.registry import LAB_METHODS, method_class, method_info
from tamis.probes.kv_cache.codec import KVCodec
from tamis.probes.model.proxy import Proxy
from tamis.probes.signal import Want
from tamis_lab.datasets.record_files import RecordFile
from tamis_lab.methods import registry
from tamis_lab.methods.corehead import CoReHead
from tamis_lab.methods.kv_search import registry as kv_search
from tamis_lab.methods.kv_search.shared_selector import Setting
from tamis_lab.methods.kv_thinning.passage_rows import PassageRows
from tamis_lab.methods.kv_thinning.sequence_rows import sequence_rows
from tamis_lab.methods.kv_thinning.thinning import thin_layers
from tamis_lab.methods.prefill.prefill_pass import prefill
from tamis_lab.methods.qrhead import QRHead
from tamis_lab.methods.window_attention.passes import read_window
from tamis_lab.train.codec.fitting import fit_codec
from tamis_lab.train.codec.samples import read_samples, rotation_rates
from tamis_lab.train.head_selection import LabelledQuestion, select_heads
from tests import device_calls
from tests.device_calls import CARDS
from tests.laws.methods import head_profile
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import make_prompts
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.retrieval.approximate import clouds
from tests.test_devices import (
    WANT,
    TinyModels,
    answer_of,
    assert_same,
    check_kept_passages,
    every_device,
    host,
    on_both,
    proxy_of,
    tiny_folders,  # noqa: F401 - a fixture
)

MOST_CALLS, MOST_WAITS = 40, 3


@pytest.fixture(scope="module")
def tiny_codec(folders, tmp_path_factory) -> KVCodec:
    """A codec of the first of them."""
    home = tmp_path_factory.mktemp("codec")
    data = home / "cats.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in records(20)))
    proxy = Proxy.from_folder(folders["llama"], device="cpu", dtype="float32")
    samples = read_samples(proxy, [RecordFile(data)], "en", 0, lambda *_: None)
    return fit(proxy, samples, 6).save(home / "codec.safetensors")


BUILDERS: dict[str, Any] = {
    "qrhead": lambda p: QRHead(p, profile=head_profile(p, "qr"), heads=2),
    "corehead": lambda p: CoReHead(p, profile=head_profile(p, "contrast"), heads=2),
}
WITHOUT_A_PROXY = {"attnrank", "systemone"}
METHODS = sorted(set(LAB_METHODS) - WITHOUT_A_PROXY)


def test_what_is_left_out_has_no_proxy():
    assert not any(method_info(name).needs_proxy for name in WITHOUT_A_PROXY)


@every_device
@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_on_a_card_what_it_says_here(folders, kind, name):
    def task():
        proxy = proxy_of(folders["llama"])
        build = BUILDERS.get(name, lambda p: method_class(name).build(TinyModels(p), {}))
        return answer_of(build(proxy))

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


@every_device
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_coded_passages_are_asked_again(folders, tiny_codec, kind, where, tmp_path):
    options = {"storage": "thin", "codec": tiny_codec}
    check_kept_passages(folders["llama"], kind, where, tmp_path, 5e-2, **options)


@every_device
def test_heads_for_an_index_are_chosen(folders, kind):
    passages = [(None, f"the {a} of the {b}") for a in WORDS[:4] for b in WORDS[:4] if a < b]
    cases = [LabelledQuestion(text, (n,)) for n, (_, text) in enumerate(passages)]

    def task():
        found = select_heads(proxy_of(folders["llama"]), passages, cases, max_heads=2)
        return list(found.recipe.heads), list(found.head_mrr.values())

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 0.05)


@every_device
@pytest.mark.parametrize("name", registry.SELECTORS.names())
def test_every_selector_of_keys(kind, name):
    def task():
        heads, tokens, k = 2, 300, 10
        keys = torch.stack([clouds.keys(tokens, seed) for seed in range(heads)])
        queries = torch.stack([clouds.queries(12, seed) for seed in range(heads)])
        if torch.cuda.is_available() or torch.backends.mps.is_available():
            keys, queries = keys.to(kind), queries.to(kind)
        spans = torch.tensor([[0, 90], [90, tokens]], device=keys.device)
        found = []
        if registry.SELECTORS.load(name).info.needs:
            setting = Setting(keys.flip(2), spans, (2, 9))
            selector = kv_search.build_shared_selector(name, keys, queries, setting)
            questions = torch.tensor([0] * 5 + [4] * 7, device=keys.device)
            for effort in (selector.efforts[0], selector.efforts[-1]):
                found.append(selector.search(queries, k, effort, questions))
        else:
            selector = kv_search.build_selector(name, keys[0], queries[0])
            for effort in (selector.efforts[0], selector.efforts[-1]):
                found.append(selector.search(queries[0], k, effort))
        return [(host(hits.scores), hits.keys_read) for hits in found]

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


@every_device
@pytest.mark.parametrize("name", registry.EVICTIONS.names())
def test_every_eviction_of_kept_passages(folders, kind, name):
    def task():
        proxy = proxy_of(folders["llama"])
        policy = registry.EVICTIONS.load(name)
        draw = torch.Generator().manual_seed(3)
        sizes = torch.rand(proxy.depth, tiny.KV_HEADS, generator=draw)
        losses = torch.rand(proxy.depth, tiny.KV_HEADS, 5, generator=draw).sort(-1, True).values
        bank = [proxy.layout.question_tokens(text) for text in ("Who?", "When was it?")]
        rows = PassageRows(proxy, proxy.depth, bank, sizes, losses)
        (prompt,) = make_prompts(proxy)[:1]
        ((_, kept),) = proxy.read_with_kv([prompt], Want((0, 1, 2, 3)))
        share = policy.info.shares[0] if policy.info.shares else 0.5
        plan = policy().keep(rows.passage(prompt.passage.ids, kept, policy.info.needs), share)
        thinned = thin_layers(kept, plan)
        asked = [signal.weights for signal in proxy.read_cached([prompt], [thinned], WANT)]
        return host(list(plan.ids)), host(asked)

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


@every_device
def test_rows_of_any_tokens(folders, kind):
    def task():
        proxy = proxy_of(folders["llama"])
        whole = sequence_rows(proxy, tiny.ids(70), (0, 70), "question", 4)
        mean = sequence_rows(proxy, tiny.ids(70), (3, 70), "question_mean", 2)
        return host([whole, mean])

    here, there, _ = on_both(kind, task)
    assert_same(here, there)


# ---------------------------------------------------------------------- research readings


@every_device
@pytest.mark.parametrize("name", registry.READINGS.names())
def test_every_reading_of_a_window(folders, kind, name):
    def task():
        proxy = proxy_of(folders["llama"])
        reading = registry.READINGS.load(name)(proxy)
        text = "The cat sat on the mat. Then the dog came in."
        passage = proxy.layout.passage_tokens(text, [(0, 23), (24, len(text))], "Cats")
        window = read_window(proxy, passage, "Who came in?", (0, 1, 2, 3), {name: reading})[name]
        return host([reading.pool(window, passage.unit_spans)]), host(
            [reading.score(window, passage.unit_spans, None)] if reading.ranks_units else []
        )

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


@every_device
@pytest.mark.parametrize("name", registry.PATTERNS.names())
def test_every_pattern_of_prefilling(kind, name):
    shape = prefill_kit.shape(((6, 80), (80, 150)), 170)

    def task():
        proxy = prefill_kit.kit.proxy(0, prefill_kit.LAYERS, context=512)
        if torch.cuda.is_available() or torch.backends.mps.is_available():
            proxy.body.to(kind)
        with proxy.device:
            sight = prefill_kit.build(name, 0.5).start(shape)
        found = prefill(proxy, prefill_kit.ids(tokens=170), shape, sight)
        return host(list(found.rows)), host(found.states), found.density

    here, there, _ = on_both(kind, task)
    assert_same(here, there, 1e-3)


def test_a_codec_reads_and_writes_all_passages_of_a_layer_at_once(tmp_path):
    """Codes cost few calls of their own, as many for 40 passages as for one."""
    folder = device_calls.save_model(tmp_path)
    proxy = Proxy.from_folder(folder, device="cpu", dtype="fp32")
    passages, _ = device_calls.documents(80)
    docs = [{"title": "", "text": p.text, "sents": [[0, len(p.text)]]} for p in passages]
    data = tmp_path / "records.jsonl"
    lines = [
        {"id": str(n), "question": "Who?", "answers": ["x"], "docs": [{**doc, "gold": [0]}]}
        for n, doc in enumerate(docs)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples = read_samples(proxy, [RecordFile(data)], "en", 0, lambda *_: None)
    opening = len(proxy.layout.opening)
    codec = fit_codec(samples, proxy.card, opening, rotation_rates(proxy), 4)
    for card in CARDS:
        one, many = (device_calls.count(card, folder, n, "thin", codec=codec) for n in (1, 40))
        for way in ("fill", "kept"):
            assert many[way].launches - one[way].launches <= 12, way
            assert many[way].a_layer <= MOST_CALLS, way
            assert many[way].syncs <= MOST_WAITS, way
            # the first batch sends the codec: in one copy to fill and one to read
            assert one[way].syncs <= MOST_WAITS + (2 if card.kind == "mps" else 0), way
