"""Late interaction and fusion against the plain way of computing them."""

from __future__ import annotations

import numpy as np
import pytest

from tamis.retrieval.index.legs import (
    complete_scores,
    fuse_standard_scores,
    top_indexes,
)
from tamis.retrieval.keys.late_interaction import (
    SCALE,
    Reference,
    fit_floor,
    join_references,
    max_similarities,
    mean_spread,
    reference_of,
    stand_out_scores,
)

H, D = 2, 8
SIZES = (3, 0, 1, 7, 2, 5)


@pytest.fixture
def stored():
    draw = np.random.default_rng(0)
    starts = np.cumsum([0, *SIZES])
    keys = draw.integers(-127, 128, (starts[-1], H * D)).astype(np.int8)
    return draw.standard_normal((4, H * D)).astype(np.float32), keys, starts


def slow_similarities(queries, keys, starts):
    found = np.full((H, len(queries), len(SIZES)), -np.inf)
    for h in range(H):
        for r, query in enumerate(queries):
            for c in range(len(SIZES)):
                for key in keys[starts[c] : starts[c + 1]]:
                    own = slice(h * D, h * D + D)
                    product = float(query[own] @ (key[own] / SCALE))
                    found[h, r, c] = max(found[h, r, c], product)
    return found


def chunk_scores(best, live):
    """How far each chunk stands out among the live ones."""
    return stand_out_scores(best, reference_of(best[..., live]))


@pytest.mark.parametrize("block", [1, 4, 100])
def test_similarities_are_those_of_a_loop_over_all_keys(stored, block):
    assert max_similarities(*stored, heads=H, block=block) == pytest.approx(
        slow_similarities(*stored), abs=1e-4
    )


def test_a_query_that_all_chunks_answer_alike_says_nothing(stored):
    found = max_similarities(*stored, heads=H)
    common = np.concatenate([found, np.full((H, 1, len(SIZES)), 50, np.float32)], axis=1)
    live = np.ones(len(SIZES), bool)
    scale = common.shape[1] / found.shape[1]
    assert chunk_scores(common, live) * scale == pytest.approx(chunk_scores(found, live), rel=1e-4)


def test_deleted_and_empty_chunks_do_not_change_the_scores_of_the_others(stored):
    found = max_similarities(*stored, heads=H)
    live = np.array([True, True, True, False, True, True])
    alone = found[..., [0, 2, 4, 5]]
    expected = chunk_scores(alone, np.ones(4, bool))
    assert chunk_scores(found, live)[[0, 2, 4, 5]] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(chunk_scores(found, live)).all()
    assert (chunk_scores(found, np.zeros(6, bool)) == 0).all()


def test_the_top_breaks_ties_by_place_and_leaves_out_what_is_not_allowed():
    scores = np.array([1, 3, 3, 2, 3, 0], np.float32)
    allowed = np.array([True, True, True, True, False, True])
    assert top_indexes(scores, allowed, 3).tolist() == [1, 2, 3]
    assert top_indexes(scores, allowed, 99).tolist() == [1, 2, 3, 0, 5]
    assert top_indexes(scores, np.zeros(6, bool), 3).tolist() == []


def test_standard_scores_do_not_depend_on_the_scale_of_a_leg():
    live = np.ones(4, bool)
    a = np.array([1, 2, 3, 4], np.float32)
    b = np.array([9, 0, 0, 1], np.float32)

    def fused(**legs):
        return fuse_standard_scores({n: complete_scores(s, live) for n, s in legs.items()})

    assert fused(a=7 * a + 5, b=b) == pytest.approx(fused(a=a, b=b), abs=1e-5)
    assert fused(a=a, c=np.ones(4, np.float32)) == pytest.approx((a - 2.5) / a.std())
    assert fused(a=a) is a


@pytest.fixture
def corpus():
    """Keys of 200 chunks that lie around a subject each, and queries of any length."""
    draw = np.random.default_rng(1)
    starts = np.cumsum([0, *draw.integers(0, 40, 200)])
    subjects = np.repeat(draw.standard_normal((200, H * D)), np.diff(starts), axis=0)
    keys = subjects + draw.standard_normal(subjects.shape)
    heads = keys.reshape(len(keys), H, D)
    unit = heads / np.linalg.norm(heads, axis=2, keepdims=True)
    queries = draw.standard_normal((800, H * D)) * draw.uniform(0.5, 2, (800, 1))
    return np.rint(unit * SCALE).astype(np.int8).reshape(keys.shape), starts, queries.astype("f4")


def test_a_fitted_floor_says_what_the_chunks_would_say(corpus):
    keys, starts, queries = corpus
    floor = fit_floor(keys, starts, queries[:600], H)
    new = queries[600:]
    best = max_similarities(new, keys, starts, H)
    wanted, found = reference_of(best), floor.reference(new)
    off = np.abs(found.mean - wanted.mean) / wanted.spread
    assert off.mean() < 0.1  # a constant in place of it is off by more than one
    assert np.abs(np.log(found.spread / wanted.spread)).mean() < 0.15
    doubled = floor.reference(2 * new)
    assert doubled.mean == pytest.approx(2 * found.mean, rel=1e-4, abs=1e-4)
    assert doubled.spread == pytest.approx(2 * found.spread, rel=1e-4)


def test_a_fitted_floor_knows_how_scores_are_distributed(corpus):
    keys, starts, queries = corpus
    floor = fit_floor(keys, starts, queries[:600], H)
    pairs = []
    for first in range(600, 800, 20):
        own = queries[first : first + 20]
        best = max_similarities(own, keys, starts, H)[..., np.diff(starts) > 0]
        reference = floor.reference(own)
        scores = stand_out_scores(best, reference)
        pairs.append((floor.scale * mean_spread(reference), (scores.mean(), scores.std())))
    predicted, measured = np.array(pairs).mean(0)
    assert predicted == pytest.approx(measured, rel=0.15)


def test_no_floor_is_fitted_to_nothing(corpus):
    keys, starts, queries = corpus
    assert fit_floor(keys, starts, queries[:0], H) is None
    assert fit_floor(keys[:0], np.zeros(4, np.int64), queries, H) is None


def test_references_of_parts_are_joined_to_that_of_all_chunks(corpus):
    keys, starts, queries = corpus
    best = max_similarities(queries[:5], keys, starts, H)[..., np.diff(starts) > 0]
    parts = [reference_of(best[..., :50]), reference_of(best[..., 50:])]
    share = 50 / best.shape[2]
    joined, whole = join_references(parts, [share, 1 - share]), reference_of(best)
    assert isinstance(joined, Reference)
    assert joined.mean == pytest.approx(whole.mean, rel=1e-4)
    assert joined.spread == pytest.approx(whole.spread, rel=1e-4)
