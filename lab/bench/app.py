"""`tamis lab bench`: the commands that measure, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from tamis.service.cli.display.short_help import finish_help

BENCHES = {
    "speed": "Time whole requests: cold, and of passages that were read before.",
    "run": "Compress every record of a file and write what was kept, a line per record.",
    "evidence": "Compare methods by the share of gold sentences they keep at each budget.",
    "answers": "Exact match and F1 of a reader with the whole context, a compressed one, and none.",
    "break-even": "What compression costs and saves a request, and from which price on it pays.",
    "cores": "Requests a second and their latency on more cores, by simulation of the queue.",
    "depth": "Gold sentences lost by reading fewer layers, or fewer heads.",
    "documents": "Count the answers kept from real manuals, and the units cut in mid-sentence.",
    "domains": "Leave one domain out: fit a probe on all others, and judge it on the one left out.",
    "hops": "Read passages alone, twice, in packs, or all at once: evidence kept, ms, tokens read.",
    "languages": "Compare proxies by language with BM25, MiniLM and both.",
    "later-use": "Shorten results in agents' runs, and see if what is used later is still there.",
    "needle": "Hide a sentence at every depth of haystacks of every length, and look for it.",
    "peers": "Compare tamis with published compressors: evidence, time and memory.",
    "places": "Gold sentences kept by where the evidence stands, and how far the places lie apart.",
    "prefill": "Compare patterns of sparse prefill: blocks, attention, evidence and time.",
    "ranking": "Compare rerankers over many sets: nDCG@10, MRR, time and regret.",
    "real": "Count the whole answers kept from real documents, in folds by repository.",
    "readings": "Compare readings of attention: gold kept, AUC, MRR, answerability and time.",
    "rerank": "Rerank candidates: nDCG@10 and recall@10 beside the first stage and MiniLM.",
    "retrieval": "Compare BM25, attention keys, sentence vectors and their fusion.",
    "retrieved": "Read by retrieved keys and values: evidence kept, and how near to all of them.",
    "search": "Compare the searches of an index's keys, at one or more sizes.",
    "selectors": "Compare ways to find the keys that a question attends to.",
    "sinks": 'Renormalise, subtract "N/A", leave separators out, weigh heads: evidence kept.',
    "thin": "What passages lose that are kept in part or in few bits.",
    "tool-choice": "Choose among hundreds of tools: recall of the one that was called, abstention.",
    "tools": "Shorten outputs of real tools, and see what is lost of the lines that matter.",
}


class _Loaded(dict[str, Any]):
    """Commands by name: a lookup loads one with its options, everything else is the list's."""

    def __getitem__(self, name: str) -> Any:
        return load_bench(name)


class Benches(TyperGroup):
    """The list needs no model library; a command's module is imported when it runs."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Loaded(
            (name, TyperCommand(name, help=text, callback=lambda: None))
            for name, text in BENCHES.items()
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command itself, with its options."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and self.commands[str(name)], rest


def load_bench(name: str) -> Any:
    """The command of a benchmark, made of the function of its module."""
    function = name.replace("-", "_")
    module = import_module(f"tamis_lab.bench.{function}")
    holder = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    holder.command(name, epilog=module.EPILOG)(getattr(module, function))
    command = get_command(holder)
    finish_help(command)
    return command


app = typer.Typer(cls=Benches, help="Measure how much evidence methods keep.", no_args_is_help=True)
