"""Rows that are read together get what they would get alone, and one bad row hurts no other."""

from __future__ import annotations

import json
import threading

import pytest
import torch

from tamis.compressors.method import MethodInfo
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import build_method
from tamis.compressors.rules import Budget
from tamis.compressors.types import Scores
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis.service.batch.job import BatchJob
from tamis.service.batch.row_compressor import (
    MAX_ROWS,
    PooledReader,
    RowCompressor,
    SharedReadError,
    row_groups,
)
from tamis.service.batch.rows import InputRow, RowRequest, parse_row, request_of
from tests.probes import tiny
from tests.scripted import ScriptedReader
from tests.service.batch.kit import rows


def row_request(row):

    job = BatchJob(Budget(ratio=0.3), method="lead")
    return request_of(parse_row(1, json.dumps(row).encode(), job), job)


class Counting:
    """A reader that counts how often, and from which thread, it is called."""

    def __init__(self, reader):
        self.reader, self.calls, self.threads = reader, [], set()
        self.card, self.layout = reader.card, reader.layout

    def with_template(self, template):
        twin = Counting(self.reader.with_template(template))
        twin.calls, twin.threads = self.calls, self.threads
        return twin

    def read(self, prompts, want):
        self.calls.append(len(prompts))
        self.threads.add(threading.get_ident())
        return self.reader.read(prompts, want)


@pytest.mark.parametrize(
    ("method", "options"),
    [("question_rows", {"probe": None}), ("infiniretri", {"heads": 0})],
)
def test_rows_read_together_get_what_they_get_alone(method, options):
    """Scripted attention is exact, so nothing may differ at all."""
    requests = [row_request(row) for row in rows(9)]
    lone, common = (Counting(ScriptedReader.from_needles("harbour of Malo")) for _ in range(2))
    pooled, counter = PooledReader(common), common.layout.tokenizer

    def call(request, on):
        made = Compressor(build_method(method, proxy=on, **options), method, counter)
        return lambda: made.compress(request.question, request.passages, Budget(ratio=0.3))

    alone, rounds = [], []
    for request in requests:
        before = len(lone.calls)
        alone.append(call(request, lone)())
        rounds.append(len(lone.calls) - before)
    together = pooled.run_together([call(request, pooled) for request in requests])
    for one, other in zip(alone, together, strict=True):
        assert (one.text, one.scores) == (other.text, other.scores)
    assert sum(common.calls) == sum(lone.calls)
    assert len(common.calls) == max(rounds)
    assert common.threads == {threading.get_ident()}


def test_a_real_decoder_gives_the_same_within_fp32_noise():
    """Another batch sums in another order: 1e-5 is the project's tolerance for that."""
    proxy = tiny.proxy()
    prompts = [
        Prompt(
            proxy.layout.passage_tokens(f"Malo {i}. " * (i + 1), [(0, 4)]),
            proxy.layout.question_tokens("Where?"),
        )
        for i in range(6)
    ]
    want = Want((0, 1), ("question_mean",))
    pooled = PooledReader(proxy)
    calls = [lambda p=p: list(pooled.read([p], want)) for p in prompts]
    for prompt, (shared,) in zip(prompts, pooled.run_together(calls), strict=True):
        (alone,) = proxy.read([prompt], want)
        torch.testing.assert_close(shared.weights, alone.weights, atol=1e-5, rtol=0)


def test_a_failed_shared_pass_reaches_every_row_and_no_row_waits_for_ever():
    class Broken(Counting):
        def read(self, prompts, want):
            raise RuntimeError("out of memory")

    pooled = PooledReader(Broken(ScriptedReader.from_needles("x")))
    prompt = Prompt(
        pooled.layout.passage_tokens("x y", [(0, 1)]), pooled.layout.question_tokens("x?")
    )
    calls = [lambda: list(pooled.read([prompt], Want((0,)))), lambda: "needs nothing"]
    failed, fine = pooled.run_together(calls * 2)[:2]
    assert isinstance(failed, SharedReadError)
    assert "out of memory" in str(failed)
    assert fine == "needs nothing"


def test_an_interrupt_of_the_shared_pass_ends_all_rows():
    class Interrupted(Counting):
        def read(self, prompts, want):
            raise KeyboardInterrupt

    pooled = PooledReader(Interrupted(ScriptedReader.from_needles("x")))
    prompt = Prompt(
        pooled.layout.passage_tokens("x y", [(0, 1)]), pooled.layout.question_tokens("x?")
    )
    with pytest.raises(KeyboardInterrupt):
        pooled.run_together([lambda: list(pooled.read([prompt], Want((0,))))] * 3)
    assert pooled.run_together([lambda: 1, lambda: 2]) == [1, 2]


def test_groups_hold_every_row_once_short_rows_together_and_long_ones_alone():
    chars = [50, 4000, 10, 10, 900, 10] + [100] * 70
    found = list(row_groups(chars, batch_chars=1000))
    assert sorted(place for group in found for place in group) == list(range(len(chars)))
    assert [group for group in found if 1 in group or 4 in group] == [[4], [1]]
    assert max(map(len, found)) == MAX_ROWS
    assert all(sum(chars[i] for i in g) <= 4000 for g in found)
    assert all(len(group) == 1 for group in row_groups(chars, batch_chars=0))


@pytest.mark.model
def test_with_the_default_proxy_long_rows_are_those_of_the_library(proxy_folder, one_thread):
    """Rows of a quarter of a batch or more are read alone: the same call, the same numbers."""
    import tamis

    job = BatchJob(Budget(ratio=0.3))
    made = RowCompressor(job)
    long = [row_request(row) for row in rows(10, documents=2)[4::5]]
    got = made.compress_rows(long)
    for request, outcome in zip(long, got, strict=True):
        result = tamis.compress(
            request.question, request.passages, ratio=0.3, proxy=made.pool.reader
        )
        assert outcome.compressed == result.text
        assert outcome.scores == result.passage_scores


@pytest.mark.model
def test_a_second_batch_finds_the_passages_of_the_first_kept(proxy_folder, one_thread, tmp_path):
    job = BatchJob(Budget(ratio=0.3), cache=str(tmp_path / "kept"))
    given = [row_request(row) for row in rows(2)]
    first = [o.compressed for o in RowCompressor(job).compress_rows(given)]
    read = RowCompressor(job)
    assert [o.compressed for o in read.compress_rows(given)] == first
    found = read.pool.reader.cache.stats()
    assert found.hits >= 4
    assert found.misses == 0


class Lead:
    """Scores by position, and raises for one question."""

    info = MethodInfo("breaks on purpose", "tests")

    def scores(self, question, passages, units):
        if question == "bad?":
            raise RuntimeError("a bug")
        return Scores(tuple(-float(u) for u in range(len(units))), (1.0,) * len(passages))


def test_a_context_beside_documents_is_not_read_and_the_row_says_so(free):
    job = BatchJob(Budget(max_tokens=5), method="lead", tokenizer=str(free.models[1]))
    row = {"question": "a?", "documents": ["It is so."], "context": "It was not so."}
    both, same = row_request(row), row_request(row | {"context": row["documents"]})
    one, two = RowCompressor(job).compress_rows([both, same])
    assert one.compressed == two.compressed == "It is so."
    assert one.warnings[:1] == ("'context' is not read, since the row has 'documents'",)
    assert two.warnings == one.warnings[1:]


def test_a_question_that_another_is_asked_in_place_of_is_not_read_and_the_row_says_so(free):
    job = BatchJob(
        Budget(max_tokens=5), method="lead", tokenizer=str(free.models[1]), question="b?"
    )
    row = InputRow(1, value={"question": "a?", "context": "It is so."})
    why = "'question' is not read, since --question asks all rows"
    assert request_of(row, job).warnings == (why,)
    row.value["question"] = "b?"
    assert request_of(row, job).warnings == ()


def test_an_error_of_one_row_appears_in_its_outcome_alone(free):
    job = BatchJob(Budget(max_tokens=5), method="lead", tokenizer=str(free.models[1]))
    made = RowCompressor(job)
    made.compressor = Compressor(Lead(), "lead", made.counter)
    fine = row_request({"question": "a?", "context": "It is so. It was so. It is. It was not so."})
    long = row_request({"question": "a?", "context": "There is no sentence here that fits. " * 2})
    outcomes = []
    one, two, three, four = made.compress_rows(
        [fine, RowRequest("bad?", fine.passages, "bad?"), long, fine], outcomes.append
    )
    assert (one.status, one.compressed) == ("ok", "It is so. It is.")
    assert one == four
    assert (two.status, two.error, two.compressed) == ("error", "RuntimeError: a bug", None)
    assert three.error.startswith("the shortest sentence has 7 tokens")
    assert sorted(map(id, outcomes)) == sorted(map(id, (one, two, three, four)))
