"""`tamis lab influence`: documents whose prediction needs a model that looks back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.service.api.languages import SHARP
from tamis.service.cli.display.output import print_note, report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_targets

EPILOG = """
A row out per document, in the order of the input: `{"id", "score", "loss", "masked_loss",
"tokens", "keep"}`. Run the same command again to go on where it stopped.

**Examples**

`tamis lab influence corpus.jsonl -o influence.jsonl --keep 0.2`

`tamis lab influence docs/ -o influence.jsonl --heads induction.json --head-share 0.05`
"""


@report_errors()
def select(
    inputs: Annotated[list[str], typer.Argument(help="JSON Lines, Parquet, texts, or folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write a JSON line a document here.")],
    heads: Annotated[
        Path | None,
        typer.Option(
            help="A profile of `tamis lab heads find`; default: copy, which ships.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[float, typer.Option(help="The share of the documents to mark.")] = 0.2,
    head_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The share of heads that is masked.")
    ] = 0.05,
    window_tokens: Annotated[
        int, typer.Option(min=2, help="Longer documents are read in windows of so many tokens.")
    ] = 1024,
    proxy: Annotated[str, typer.Option("--proxy", help="A zoo name, or a folder.")] = SHARP,
    encoding: Annotated[str, typer.Option(help="Of text files.")] = "utf-8",
) -> None:
    """Score documents by how much worse a model predicts them without its retrieval heads.

    For choosing training texts that teach a model to look back (AttentionInfluence, arXiv
    2505.07293). Every document is read twice, through the whole model.
    """
    from tamis.compressors.registry import load_proxy
    from tamis.probes.probing.heads import choose_profile
    from tamis.service.files.corpus import (
        CorpusFields,
        corpus_fingerprint,
        count_documents,
        find_corpus_files,
        read_documents,
    )
    from tamis_lab.train import influence

    check_targets(out)
    influence.mark_kept([], keep)
    files = find_corpus_files(inputs)
    profile = choose_profile(heads or "auto", "copy", proxy)
    reader = load_proxy(proxy, None)
    profile.check(reader.card, reader.layout.template.name)
    best = profile.best(max(1, round(head_share * profile.layers * profile.heads)))
    masked = best if head_share else ()
    settings: dict[str, Any] = {
        "model": [reader.card.name, reader.card.revision],
        "corpus": corpus_fingerprint(inputs),
        "heads": [list(head) for head in masked],
        "window_tokens": window_tokens,
    }
    documents = ((d.id, d.text) for d in read_documents(files, CorpusFields(), encoding))
    total = count_documents(files)
    with file_bars() as report:
        done = influence.select_documents(
            documents,
            lambda name, text: influence.document_influence(
                reader, name, text, masked, window_tokens
            ),
            out,
            settings,
            keep,
            lambda read: report("documents", read, total),
        )
    print_note(f"{out}: {done:,} documents, {len(masked)} heads masked")
