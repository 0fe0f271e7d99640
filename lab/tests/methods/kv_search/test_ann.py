"""FAISS's indexes against exact search, and their counts of keys read against counting by hand."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tamis.probes.errors import BadInput, MissingExtra
from tamis_lab.methods.kv_search import ann
from tamis_lab.methods.kv_search.exact import ExactIndex
from tamis_lab.methods.kv_search.faiss_module import faiss
from tests.retrieval.approximate import clouds

FORMS = ("ip", "augmented_l2")
N, Q, K = 1500, 24, 10
# FAISS compares distances that are differences of squares around 100: near ties may swap
TIES = 0.99
WHOLE = {"flat": None, "ivf": 155, "hnsw": N}
"""The effort with which nothing is left out: every list, a beam as wide as the graph."""


@pytest.fixture(scope="module")
def keys() -> torch.Tensor:
    return clouds.keys(N)


@pytest.fixture(scope="module")
def queries() -> torch.Tensor:
    return clouds.queries(Q)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["flat", "ivf"])
def test_with_nothing_left_out_the_order_is_that_of_inner_products(name, form, keys, queries):
    index = ann.build(name, form=form)
    index.add(keys)
    hits, truth = index.search(queries, K, WHOLE[name]), ExactIndex(keys).search(queries, K)
    assert clouds.recall(hits.ids, truth.ids) >= TIES
    torch.testing.assert_close(hits.scores, truth.scores, atol=1e-3, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["ivf", "hnsw"])
def test_scores_are_inner_products_with_the_keys_as_given_best_first(name, form, keys, queries):
    index = ann.build(name, form=form)
    index.add(keys)
    hits = index.search(queries, K)
    own = torch.einsum("qd,qkd->qk", queries, keys[hits.ids])
    torch.testing.assert_close(hits.scores, own, atol=1e-4, rtol=0)
    assert (hits.scores.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["ivf", "hnsw"])
def test_more_effort_reads_more_keys_and_finds_more(name, form, keys, queries):
    index, truth = ann.build(name, form=form), ExactIndex(keys).search(queries, K).ids
    index.add(keys)
    low, high = (index.search(queries, K, effort) for effort in (2, 60))
    assert low.keys_read < high.keys_read
    assert clouds.recall(low.ids, truth) < clouds.recall(high.ids, truth)


def test_an_ivf_reads_its_centroids_and_the_lists_it_probes(keys, queries):
    index = ann.build("ivf", lists=20, probes=3)
    index.add(keys)
    faiss_index = index._index
    _, probed = faiss_index.quantizer.search(queries.numpy(), 3)
    sizes = [faiss_index.invlists.list_size(i) for i in range(20)]
    by_hand = Q * 20 + sum(sizes[i] for row in probed for i in row)
    assert index.search(queries, K).keys_read == by_hand


def test_an_hnsw_counts_the_descent_through_its_upper_levels(keys, queries):
    """With a beam of one, the lowest level alone would read less than what is counted."""
    index = ann.build("hnsw", degree=8)
    index.add(keys)
    whole = index.search(queries, 1, 1).keys_read
    graph = index._index.hnsw
    graph.max_level, top = 0, graph.max_level
    lowest = index.search(queries, 1, 1).keys_read
    graph.max_level = top
    assert top > 0
    assert whole != lowest
    assert index.search(queries, 1, 1).keys_read == whole


@pytest.mark.parametrize("name", ["flat", "ivf", "hnsw"])
def test_searches_of_several_threads_neither_mix_nor_count_each_other(name, keys, queries):
    index = ann.build(name)
    index.add(keys)
    alone = [index.search(query[None], K) for query in queries]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda query: index.search(query[None], K), queries.repeat(4, 1)))
    for hits, expected in zip(found, alone * 4, strict=True):
        assert torch.equal(hits.ids, expected.ids)
        assert hits.keys_read == expected.keys_read


@pytest.mark.parametrize("form", FORMS)
def test_keys_added_later_are_found_even_if_they_are_longer_than_all_before(form, queries):
    index = ann.build("flat", form=form)
    index.add(clouds.keys(40))
    long = -30 * queries.mean(0, keepdim=True).neg()
    index.add(long)
    assert (index.search(queries, 1).ids == 40).float().mean() > 0.9
    assert len(index) == 41


def test_what_does_not_exist_is_refused_with_what_does():
    with pytest.raises(BadInput, match="names are flat, ivf, hnsw, forms ip, augmented_l2"):
        ann.build("annoy")
    with pytest.raises(BadInput, match=r"hnsw has no option \['probes'\]"):
        ann.build("hnsw", probes=3)
    with pytest.raises(BadInput, match="probes=0 is too small"):
        ann.build("ivf", probes=0)
    with pytest.raises(BadInput, match="no hnsw on a GPU"):
        ann.build("hnsw", device="cuda")
    with pytest.raises(BadInput, match="empty"):
        ann.build("flat").search(clouds.queries(1), 1)
    with pytest.raises(BadInput, match="no keys"):
        ann.build("flat").add(torch.zeros(0, 4))


def test_a_faiss_without_gpu_says_which_extra_has_one():
    import faiss

    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        index = ann.build("flat", device="cuda")
        index.add(clouds.keys(50))
        assert index.search(clouds.queries(2), 3).ids.min() >= 0
        return
    with pytest.raises(MissingExtra, match=r"tamis-lab\[gpu\]"):
        ann.build("flat", device="cuda")


def test_without_faiss_the_error_names_the_extra():
    script = (
        "import sys; sys.modules['faiss'] = None\n"
        "from tamis_lab.methods.kv_search import ann\n"
        "try: ann.build('ivf')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.startswith("MissingExtra")
    assert "pip install 'tamis-lab[retrieval]'" in run.stdout


@pytest.mark.parametrize("degree", [1, 2])
def test_a_graph_of_one_link_a_key_is_refused(degree):
    with pytest.raises(BadInput, match="at least 3"):
        ann.build("hnsw", degree=degree)


class PretendGpu:
    """An index of FAISS on a GPU: the one on the CPU within the limits of the other, uncounted."""

    def __init__(self, number, index):
        self.number, self._index = number, index

    def __getattr__(self, name):
        return getattr(self._index, name)

    def search(self, queries, k, params=None):
        if k > 2048 or (params is not None and params.nprobe > 2048):
            raise RuntimeError("GPU index only supports min/max-K selection up to 2048")
        stats = faiss().cvar.indexIVF_stats
        before = stats.ndis
        found = self._index.search(queries, k, params=params)
        stats.ndis = before
        return found


@pytest.fixture
def two_gpus(monkeypatch):
    """FAISS as it is built for GPUs, of which there are two."""
    module = faiss()
    monkeypatch.setattr(module, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(module, "get_num_gpus", lambda: 2, raising=False)
    to_gpu = lambda resources, number, index: PretendGpu(number, index)  # noqa: E731
    monkeypatch.setattr(module, "index_cpu_to_gpu", to_gpu, raising=False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "effort"), [("flat", None), ("ivf", 1), ("ivf", 9), ("ivf", 500)])
def test_a_gpu_finds_and_counts_what_the_cpu_does(two_gpus, form, name, effort, keys, queries):
    found = []
    for device in ("cpu", "cuda", "cuda:1"):
        index = ann.build(name, form=form, device=device)
        index.add(keys)
        found.append(index.search(queries, K, effort))
        assert (
            getattr(index._index, "number", None) == {"cpu": None, "cuda": 0, "cuda:1": 1}[device]
        )
    assert found[0].keys_read > 0
    for hits in found[1:]:
        assert torch.equal(hits.ids, found[0].ids)
        assert hits.keys_read == found[0].keys_read


def test_what_faiss_does_not_do_on_a_gpu_is_refused_with_the_way_out(two_gpus, queries):
    index = ann.build("flat", device="cuda")
    index.add(clouds.keys(2049))
    assert index.search(queries[:1], 2048).ids.shape == (1, 2048)
    with pytest.raises(BadInput, match=r"k is 2,049 and FAISS on a GPU takes 2,048 at most.*cpu"):
        index.search(queries[:1], 3000)
    with pytest.raises(BadInput, match="cuda:2 and FAISS sees 2; give cuda:0 to 1"):
        ann.build("flat", device="cuda:2")
    with pytest.raises(BadInput, match="no hnsw on a GPU"):
        ann.build("hnsw", device="cuda")
