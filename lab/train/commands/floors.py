"""`probe floors`: chooses the floors of a probe's verdict on contexts without their answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer

from tamis.service.cli.display.output import report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.shared import (
    SHARP,
    Data,
    ProbeFile,
    ProxyName,
    ReadingsFolder,
    default_method,
    parse_record_file,
    readings_folder,
)

if TYPE_CHECKING:
    from tamis_lab.datasets.record_files import RecordFile
    from tamis_lab.datasets.records import Record
    from tamis_lab.datasets.taken_out import Context

DISTRACTORS = 5
EPILOG = """
Records are read with copies whose gold sentences are cut out. Of each file the last LIMIT in the
order of sampling are taken, so that a fit on fewer than all has seen few of them.

**Example**

`tamis lab probe floors --data squad2.jsonl.gz:40 --data hover.jsonl.gz:10 --out probe.json`
"""


@report_errors()
def floors(
    data: Data,
    pages: Annotated[
        list[str] | None,
        typer.Option(
            "--pages", help="As --data: passages alone, and questions written to have no answer."
        ),
    ] = None,
    everyday: Annotated[
        Path | None,
        typer.Option("--everyday", help="Also judge short documents: `text` and questions."),
    ] = None,
    probe: ProbeFile = None,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the probe here, its floors in the card.")
    ] = None,
) -> None:
    """Choose below which answerability a context is unanswerable, and from which answerable."""
    from tamis.compressors.features.second_step import FLOORS
    from tamis_lab.datasets.domains import domain_of
    from tamis_lab.datasets.records import request_units
    from tamis_lab.datasets.taken_out import everyday_contexts
    from tamis_lab.train.probe.answerability import (
        choose_floors,
        context_aurocs,
        judge_contexts,
        verdict_shares,
    )
    from tamis_lab.train.probe.labelled_readings import RecordReader

    method, found = default_method(probe, proxy)
    reader = RecordReader(method, readings_folder(cache))

    def judge(name: str, domain: str, record: Record, contexts: list[Context]) -> list[Any]:
        gold = torch.zeros(len(request_units(record)), dtype=torch.bool)
        return judge_contexts(found, reader.read(name, domain, record, gold), contexts)

    judged: list[Any] = []
    short: list[Any] = []

    def judge_file(file: RecordFile, alone: bool) -> None:
        cases = list(contexts_of(file, alone))
        for i, (record, contexts) in enumerate(cases, 1):
            domain = record.get("domain", domain_of(file))
            judged.extend(judge(file.name, domain, record, contexts))
            report(file.name, i, len(cases))

    with file_bars() as report:
        for file in map(parse_record_file, data):
            judge_file(file, alone=False)
        for file in map(parse_record_file, pages or ()):
            judge_file(file, alone=True)
        for record, contexts in everyday_contexts(everyday) if everyday else ():
            short += judge("everyday", "everyday", record, contexts)
    chosen = choose_floors(judged)
    figures = {
        **chosen,
        "auroc": context_aurocs(judged),
        "by_domain": {
            name: context_aurocs([one for one in judged if one.domain == name])
            for name in sorted({one.domain for one in judged})
        },
        "by_kind": verdict_shares(judged, chosen),
    }
    if short:
        pairs = {
            name: ("page" if name in ("beside", "elsewhere") else "pool", name)
            for name in ("beside", "beside-pool", "elsewhere", "elsewhere-pool")
        }
        figures["everyday"] = {
            "auroc": context_aurocs(short, pairs),
            "by_kind": verdict_shares(short, chosen),
        }
    typer.echo(json.dumps(figures, indent=1))
    if out:
        card = replace(found.card, figures={**found.card.figures, FLOORS: chosen})
        replace(found, card=card).save(out)


def contexts_of(file: RecordFile, alone: bool) -> Iterator[tuple[Record, list[Context]]]:
    """The last records of a file in the order of sampling, each with its contexts.

    Args:
        alone: single passages get no distractors, and as many questions that were written to have
            no answer are taken, too.
    """
    from tamis_lab.datasets.record_files import sample_records
    from tamis_lab.datasets.records import (
        add_distractors,
        are_single_passages,
        gold_spans,
        load_records,
    )
    from tamis_lab.datasets.taken_out import with_cut_documents

    def last(records: list[Record]) -> list[Record]:
        early = len(records) - (file.limit or len(records))
        seen = {id(r) for r in sample_records(records, early)} if early > 0 else set()
        return [record for record in records if id(record) not in seen]

    rows = load_records(file.path)
    answerable = [r for r in rows if r.get("answerable", True) and gold_spans(r)]
    chosen = last(answerable)
    if alone:
        chosen += last([r for r in rows if not r.get("answerable", True)])
    elif are_single_passages(answerable):
        chosen = add_distractors(chosen, DISTRACTORS, pool=answerable)
    for record in chosen:
        whole, contexts = with_cut_documents(record)
        if contexts:
            yield whole, contexts
