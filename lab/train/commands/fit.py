"""`tamis lab probe fit`: fits a probe on questions that nobody labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_probe_target, check_targets
from tamis_lab.options.shared import (
    SHARP,
    ProxyName,
    ReadingsFolder,
    parse_record_file,
    readings_folder,
)
from tamis_lab.train.commands.probe_plots import print_figures

EPILOG = """
**Examples**

`tamis lab probe fit --unlabelled questions.jsonl:200 --proxy ./my-model --out my-probe.safetensors`

`tamis compress docs/ -q "Who?" --proxy ./my-model --probe my-probe.safetensors`

A record is one JSON object a line, {"id": "1", "question": "…", "docs": [{"text": "…"}]}; labels
in it are not read. Passages that hold an answer each (a paragraph, a section) say most: only the
first --tokens of a record are read. Look into the file of labels before you trust the probe; its
figures say how well it foretells these labels, not people's.
"""


@report_errors()
def fit(
    unlabelled: Annotated[
        list[str],
        typer.Option(
            "--unlabelled",
            help="Questions with text, JSONL, maybe as FILE:LIMIT to use LIMIT. Repeatable.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the probe (.safetensors and .json).")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Where the labels are kept: a run that was stopped goes on with them, and the "
            "probe is fitted on all that are there. Default: beside the probe, as .labels.jsonl.",
            show_default=False,
        ),
    ] = None,
    proxy: ProxyName = SHARP,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Read the first N layers; default two thirds.")
    ] = None,
    masks: Annotated[
        int, typer.Option(min=4, help="Prompts with sentences left out, for each question.")
    ] = 24,
    tokens: Annotated[int, typer.Option(min=16, help="Of a record's text that are read.")] = 400,
    cache: ReadingsFolder = None,
) -> None:
    """Fit a probe without labels: on the sentences that the model's own answers depend on.

    The model answers each question, and again with sentences left out at random; those that its
    answer needs become the labels. Then the probe is fitted as `tamis lab probe train` does. A
    question takes the time of reading its text 36 times.
    """
    from tamis.compressors.registry import load_proxy
    from tamis.probes.probing.linear import probe_files
    from tamis_lab.datasets.record_files import RecordFile
    from tamis_lab.datasets.score_sources import installed_encoder_source
    from tamis_lab.train.probe import own_answers
    from tamis_lab.train.probe.fitting import train_probe

    check_probe_target(out)
    if labels is None:
        labels = probe_files(out)[0].with_suffix(".labels.jsonl")
        labels.parent.mkdir(parents=True, exist_ok=True)
    check_targets(labels)
    records = own_answers.check_unlabelled([parse_record_file(name) for name in unlabelled])
    with file_bars() as report:
        whole = load_proxy(proxy, None)
        depth = layers or max(1, whole.card.layers * 2 // 3)
        if depth > whole.card.layers:
            raise BadInput(f"--layers is {depth} and {proxy} has {whole.card.layers}; give fewer")
        useful = own_answers.label_file(whole, records, labels, masks, tokens, report)
        del whole
        if useful < own_answers.LEAST_QUESTIONS:
            raise BadInput(
                f"the model's answers depend on the text for {useful} questions of {labels}, and a "
                f"probe needs {own_answers.LEAST_QUESTIONS}; give more questions, or a larger model"
            )
        Console(stderr=True).print(f"{labels}: {useful} answers depend on their text")
        reader, folder = load_proxy(proxy, depth), readings_folder(cache)
        cosines = installed_encoder_source(folder)
        made = RecordFile(labels)
        probe, _ = train_probe(reader, [made], folder, depth, report, cosines=cosines)
    written = probe.save(out)
    print_figures(probe.card.figures)
    Console(stderr=True).print(f"wrote {written}")
