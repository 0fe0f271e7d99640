"""`tamis ask-context`: a prompt with citations for a question, from an index on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT, method_info
from tamis.service.cli.display.output import dump_json, nothing_found, print_note
from tamis.service.cli.options.compress_options import SHARED
from tamis.service.cli.options.model_folder import HomeFolder, models_folder
from tamis.service.cli.options.typer_options import INDEX, parse_legs, takes_options
from tamis.text.language import AUTO

if TYPE_CHECKING:
    from tamis.service.api.ask_context import AskedContext

JUDGED = ("status", "answerability", "verdict", "reason")
"""What is known of the chunks together; null where none was found."""
EPILOG = """
**Examples**

`tamis ask-context docs.index -q "How are keys rotated?" --max-tokens 500 > prompt.txt`

`tamis ask-context docs.index -q "How are keys rotated?" --where lang=en --json`

A chunk is read for one question, and kept for the next: `tamis cache stats` shows what is kept.

An index built with `--keep-kv` reads none: its answers say `warm`. Another proxy than the default
reads them.
"""


@takes_options(
    INDEX | SHARED,
    question=Option("What shall be answered.", short="-q"),
    max_tokens=Option("Most tokens of output."),
    top_k=Option("Chunks that are read.", short="-k"),
    cache=Option(
        "Folder that keeps what was read. Default: passages/ in tamis's cache folder, up to 2 GiB; "
        "none for an index that keeps its chunks."
    ),
    no_cache=Option("Keep nothing."),
    read=Option(
        "passages reads chunks one by one; retrieved all at once, by kept keys and values "
        "(--keep-kv).",
        hidden=True,
    ),
    selector=Option(
        "What finds keys for retrieved: index, of the chunks it finds; exact, of all; or another "
        "package's.",
        hidden=True,
    ),
    keys=Option("Most keys that a query of retrieved attends to. Default: all.", hidden=True),
)
def ask_context(
    index: Path,
    *,
    question: str,
    max_tokens: int = 500,
    top_k: int = 20,
    where: list[str] | None = None,
    by: str | None = None,
    search: str = "auto",
    method: str = DEFAULT,
    proxy: str = AUTO,
    quality: str = "standard",
    cache: Path | None = None,
    no_cache: bool = False,
    read: Literal["passages", "retrieved"] = "passages",
    selector: str = "index",
    keys: int | None = None,
    json: bool = False,
    quiet: bool = False,
    offline: bool = False,
    home: HomeFolder = None,
) -> None:
    """Find, rank and compress: the sentences of an index that answer, with where they stand."""
    from tamis.compressors.method import check_scores
    from tamis.retrieval.index.store import CorpusIndex
    from tamis.service.api.ask_context import ask_context as build_context
    from tamis.service.api.ask_context import language_of
    from tamis.service.api.kept_chunks import keeps_for
    from tamis.service.api.languages import choose_proxy
    from tamis.service.cli.options.default_proxy import fetch_default_proxy, open_default_cache
    from tamis.text.inputs import check_question_length

    check_question_length(question)
    models = models_folder(home)
    # the keys of an index are compared by the model that made them, whatever scores the sentences
    found = CorpusIndex.open(index, root=models)
    language = language_of(found)
    choice = choose_proxy(proxy, method, language, question, (), models, quality=quality)
    check_scores(method_info(method), method)
    fetch_default_proxy(choice.proxy, models, offline)
    kept = None
    if cache is not None or no_cache or not keeps_for(found, choice.proxy):
        kept = open_default_cache(cache, no_cache, home)  # else what the index keeps
    result = build_context(
        found,
        question,
        max_tokens=max_tokens,
        top_k=top_k,
        where=where,
        by=parse_legs(by),
        search=search,
        method=method,
        proxy=proxy,
        quality=quality,
        root=models,
        cache=kept,
        read=read,
        selector=selector,
        keys=keys,
    )
    if json:
        typer.echo(dump_json(context_json(question, result)))
        return
    stdout = typer.get_binary_stream("stdout")
    stdout.write(f"{result.text}\n".encode("utf-8", "replace"))
    stdout.flush()
    if not quiet:
        print_note(_summary(result) if result.hits else nothing_found(len(found), where))
        if (short := result.compressed) is not None:
            for line in (*(f"warning: {one}" for one in short.warnings), short.judgement):
                print_note(line)


def context_json(question: str, result: AskedContext) -> dict[str, Any]:
    """The prompt, its citations, and the tokens and time it took, as JSON."""
    return {
        "question": question,
        "text": result.text,
        "citations": [
            {
                "chunk": of.chunk,
                "document": of.doc,
                "title": of.title,
                "start": of.start,
                "end": of.stop,
                "score": of.score,
                "metadata": dict(of.metadata),
                "text": of.text,
            }
            for of in result.citations
        ],
        "chunks_read": [{"id": hit.id, "score": hit.score} for hit in result.hits],
        "keys_read": result.keys_read,
        "reading": result.reading,
        "usage": {
            "input_tokens": result.tokens_in,
            "output_tokens": result.tokens_out,
            "read_tokens": result.tokens_read,
            "cached_tokens": result.tokens_cached,
        },
        "timings": {f"{name}_ms": round(ms, 3) for name, ms in result.timings_ms.items()},
        **{name: getattr(result.compressed, name, None) for name in JUDGED},
        "warnings": list(result.compressed.warnings) if result.compressed else [],
    }


def _summary(result: AskedContext) -> str:
    stages = ", ".join(
        f"{name} {ms:.0f} ms" for name, ms in result.timings_ms.items() if name != "total"
    )
    documents = len({citation.doc for citation in result.citations})
    return (
        f"{result.tokens_in:,} tokens of {len(result.hits)} chunks to {result.tokens_out:,} from "
        f"{documents} documents in {result.timings_ms['total']:,.0f} ms ({stages}); "
        f"{result.reading}: {result.tokens_read:,} tokens read, {result.tokens_cached:,} kept"
    )
