"""`bench documents`: answers kept from manuals as people have them, in four text formats."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import add_bar, record_bars
from tamis_lab.options.bench_options import SHARP, ProxyName, ReadingsFolder, parse_list
from tamis_lab.options.output_files import check_targets, write_json
from tamis_lab.options.probe_options import readings_folder

DEFAULT_MANUALS = Path("examples/manuals")
EPILOG = """
**Example**

`tamis lab bench documents --methods lexical,lead --limit 20`

Each question gets the six chunks of 4,000 characters of its manual that are most like it by BM25.
An answer is kept when 90 % of its visible characters are. Shares are of the answers that the chunks
hold. `tokens/answer` are the tokens of all outputs, by answer kept. Readings are kept, so a second
run only selects; `--json` names each answer that was not kept, with the ranks of its units.
"""


@report_errors()
def documents(
    data: Annotated[
        Path, typer.Option(help="Folder with pages.jsonl.xz and questions.jsonl.")
    ] = DEFAULT_MANUALS,
    methods: Annotated[
        str, typer.Option(help="Names of methods, with commas.")
    ] = "question_rows,lexical,embedding,lead",
    max_tokens: Annotated[int, typer.Option(min=1, help="Budget of each question.")] = 300,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions a format, from all manuals.")
    ] = None,
    formats: Annotated[
        str, typer.Option(help="Converters whose texts are read, with commas.")
    ] = "get_text,markdownify,html2text,trafilatura",
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
) -> None:
    """Count the answers kept from real manuals, and the units that stop in mid-sentence."""
    from tamis.compressors.pipeline.compression import Compressor
    from tamis.compressors.registry import method_info
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.documents.cases import (
        document_cases,
        load_pages,
        load_questions,
    )
    from tamis_lab.bench.documents.figures import method_figures, segmentation_figures
    from tamis_lab.bench.evidence.panel import build_panel
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.datasets.score_sources import SourceScorer

    check_targets(json_file)
    pages, questions = load_pages(data), load_questions(data, limit)
    counter = counter_of("proxy", proxy)
    sources = build_panel(
        parse_list(methods, "methods"), proxy, readings_folder(cache)
    ).panel.sources
    built = {
        name: Compressor(SourceScorer(method_info(name), source), name, counter)
        for name, source in sources.items()
    }
    found: dict[str, Any] = {}
    with record_bars() as progress:
        for form in parse_list(formats, "formats"):
            cases = list(document_cases(pages, questions, form))
            report = add_bar(progress, form, len(cases))
            texts = [page["text"] for page in pages if page["format"] == form]
            found[form] = {
                "segmentation": segmentation_figures(texts),
                "methods": method_figures(cases, built, max_tokens, report),
            }
    make_console().print(_table(found, max_tokens))
    if json_file:
        command = ["tamis", *sys.argv[1:]]
        write_json({"command": command, **environment_facts(), "formats": found}, json_file)


def _table(found: Mapping[str, Any], max_tokens: int) -> Any:
    """Formats and methods, one row each."""
    from rich.table import Table

    table = Table(title=f"Answers kept from manuals at {max_tokens} tokens")
    for column in (
        "format, method",
        "kept",
        "tokens/answer",
        "units",
        "mid-sentence",
        "below floor",
    ):
        table.add_column(column, justify="left" if column.startswith("format") else "right")
    for form, of in found.items():
        cut = of["segmentation"]
        table.add_row(
            form, "", "", str(cut["units"]), f"{cut['mid_sentence']} ({cut['share']:.2%})", "",
            style="bold",
        )  # fmt: skip
        for name, row in of["methods"].items():
            share = "" if row["share_kept"] is None else f" ({row['share_kept']:.2f})"
            table.add_row(
                f"  {name}",
                f"{row['kept']} of {row['held']}{share}",
                str(row["tokens_an_answer"] or ""),
                str(row["units"]),
                str(row["mid_sentence"]),
                str(row["worthless"]),
            )
        table.add_section()
    return table
