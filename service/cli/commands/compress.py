"""`tamis compress`: keeps the sentences of files, folders or a pipe that answer a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tamis.compressors.options import Option
from tamis.compressors.pipeline.compression import Compressor, PassageResult, per_passage
from tamis.compressors.registry import DEFAULT
from tamis.compressors.rules import OUTPUT, Budget, Rules
from tamis.compressors.types import Compressed, token_usage
from tamis.probes.atomic_file import write_whole
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import UNCUT_WIDTH, dump_json, make_console, print_note
from tamis.service.cli.options.compress_options import MAX_INPUT_TOKENS, SHARED
from tamis.service.cli.options.model_folder import HomeFolder, models_folder
from tamis.service.cli.options.typer_options import gate_options, parse_options, takes_options
from tamis.service.files.command_inputs import InputOptions, gather_inputs, standard_input
from tamis.service.files.document_text import FORMAT, InputFormat, page_at
from tamis.text.types import Passage

if TYPE_CHECKING:
    from tamis.probes.tokens import TextTokenizer

# no language has so many bytes per token: a longer input is refused without counting
_BYTES_A_TOKEN = 64
_LISTED_SOURCES = 10
_EXPLANATION_WIDTH = 100
EPILOG = """
**Examples**

`tamis compress docs/ -q "How are keys rotated?" --max-tokens 800`

`tamis compress docs/ -q "How are keys rotated?" --explain --html heat.html`

`tamis compress docs/ -q "How are keys rotated?" --order edges` puts the best at both ends

`tamis compress docs/ -q "How are keys rotated?" --cache kept/` reads docs/ once for all questions

`cat manual.md | tamis compress -q "What is the default port?" --ratio 0.1 > short.md`

`tamis compress request.json --citations "({id})" --json`, where request.json holds
`{"question": "...", "documents": ["...", {"id": "a", "title": "...", "text": "..."}]}`
"""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where the output goes, and in which form; `everything` also explains what was left out."""

    json: bool
    explain: bool
    everything: bool
    html: Path | None
    out: Path | None
    quiet: bool

    def __post_init__(self) -> None:
        if self.json and self.explain:
            word = "--explain-all" if self.everything else "--explain"
            raise BadInput(f"--json and {word} both want the output; give one, or --html FILE")


@takes_options(
    SHARED,
    json=Option("Print one JSON object: text, spans, scores, counts.", OUTPUT),
    explain=Option("Print the kept sentences and their neighbours with their scores.", OUTPUT),
    explain_all=Option("Print every sentence with its score, kept or not.", OUTPUT),
    html=Option("Also write the heat map as a web page.", OUTPUT),
    out=Option("Write the text or the JSON here.", OUTPUT, short="-o"),
)
def compress(
    paths: list[str] | None = None,
    *,
    question: str | None = None,
    budget: Budget,
    instruction: str | None = None,
    history: list[str] | None = None,
    tokenizer: str = "proxy",
    method: str = DEFAULT,
    proxy: str = "auto",
    quality: str = "standard",
    option: list[str] | None = None,
    probe: Path | None = None,
    gate: str = "auto",
    cascade: bool = True,
    cache: Path | None = None,
    rules: Rules,
    isolated: bool = False,
    json: bool = False,
    explain: bool = False,
    explain_all: bool = False,
    html: Path | None = None,
    out: Path | None = None,
    quiet: bool = False,
    language: str = "auto",
    encoding: str = "utf-8",
    input_format: InputFormat = InputFormat.auto,
    max_input: int = MAX_INPUT_TOKENS,
    offline: bool = False,
    home: HomeFolder = None,
) -> None:
    """Keep the sentences that answer a question, verbatim, within a token budget."""
    output = OutputOptions(json, explain or explain_all, explain_all, html, out, quiet)
    reading = InputOptions(encoding, max_input * _BYTES_A_TOKEN, input_format, (html, out))
    found = gather_inputs(paths or (), standard_input(), reading)
    if not quiet and (passed_over := found.skipped_note()):
        print_note(passed_over)
    query = found.question(question)

    from tamis.probes.named_tokenizers import approximation_warning
    from tamis.service.api.compress import counter_of
    from tamis.service.api.languages import choose_proxy, probe_option
    from tamis.service.api.lazy_method import LazyMethod, ordering_methods
    from tamis.service.cli.options.default_proxy import fetch_default_proxy, open_cache
    from tamis.text.inputs import check_question_length, question_text

    asked = check_question_length(question_text(query, instruction, history or ()))
    models = models_folder(home)
    flags: dict[str, Any] = {"probe": probe, "isolated": isolated or None}
    flags |= gate_options(gate, cascade)
    options = parse_options(option, **flags)
    choice = choose_proxy(
        proxy, method, language, query, found.passages, models, probe_option(options), quality
    )
    scorer = LazyMethod(method, choice.proxy, models, cache=open_cache(cache), **options)
    if tokenizer == "proxy" or scorer.info.needs_proxy:
        fetch_default_proxy(choice.proxy, models, offline)
    counter = counter_of(tokenizer, choice.proxy, models)
    _check_size(found.passages, counter, max_input)
    result = Compressor(scorer, method, counter, ordering_methods(choice.proxy, models)).compress(
        asked,
        found.passages,
        budget,
        rules,
        language=choice.language,
    )
    result = choice.add_warning(result)
    counted = (approximation_warning(counter),) if counter.approximates else ()
    result = replace(result, warnings=(*result.warnings, *found.notes(), *counted))
    _write_output(output, query, result, per_passage(result, rules, counter), bool(counted))


def _check_size(passages: Sequence[Passage], counter: TextTokenizer, max_tokens: int) -> None:
    """Refuses an input so long that it was probably given by mistake.

    Raises:
        BadInput: it has more tokens than `max_tokens`.
    """
    if sum(len(passage.text.encode("utf-8", "replace")) for passage in passages) <= max_tokens:
        return  # a token has at least one byte
    tokens = sum(counter.count_many([passage.text for passage in passages]))
    if tokens > max_tokens:
        raise BadInput(
            f"the input has {tokens:,} tokens and at most {max_tokens:,} are read; "
            f"name fewer files, or allow it with --max-input {tokens}"
        )


def _write_output(
    output: OutputOptions,
    question: str,
    result: Compressed,
    found: Sequence[PassageResult],
    estimated: bool,
) -> None:
    """Writes the result in the form that was chosen, and a summary to standard error."""
    if output.html is not None:
        from tamis.service.cli.display.heatmap import html_page

        _write_file(output.html, html_page(question, result, found).encode())
    json = compression_json(result, found, estimated) if output.json else None
    data = _encode(result.text if json is None else dump_json(json))
    if output.out is not None:
        _write_file(output.out, data)
    elif not output.explain:
        stdout = typer.get_binary_stream("stdout")
        stdout.write(data)
        stdout.flush()
    if output.explain:
        from tamis.service.cli.display.heatmap import explanation

        console = make_console(pipe_width=_EXPLANATION_WIDTH)
        for part in explanation(question, result, found, output.everything):
            console.print(part)
    elif not output.json and not output.quiet:
        _print_summary(result, found)


def _encode(text: str) -> bytes:
    """The text and a line feed in UTF-8, independent of the terminal's encoding."""
    from tamis.probes.tokens import replace_surrogates

    valid = replace_surrogates(text)
    if valid != text:
        print_note("tamis: lone surrogates are written as U+FFFD; --json keeps them")
    return f"{valid}\n".encode()


def _write_file(file: Path, data: bytes) -> None:
    try:
        write_whole(file, data)
    except OSError as error:
        raise BadInput(f"{file} cannot be written ({error.strerror}); name another file") from error


def _print_summary(result: Compressed, found: Sequence[PassageResult]) -> None:
    """Prints what was kept of which passages, tokens and timings to standard error."""
    from tamis.service.cli.display.heatmap import compression_totals, source_table

    console = make_console(stderr=True, pipe_width=UNCUT_WIDTH)
    best = sorted(found, key=lambda source: (not source.kept, -(source.score or 0.0)))
    console.print(source_table(best[:_LISTED_SOURCES]))
    if (more := len(best) - _LISTED_SOURCES) > 0:
        console.print(f"and {more} more sources", style="dim")
    console.print(compression_totals(result))


def compression_json(
    result: Compressed, passages: Sequence[PassageResult], estimated: bool = False
) -> dict[str, Any]:
    """The response of `POST /v1/compress` to a compression; without scores they are null.

    Of the answer alone: its id, time and model are the service's.

    `extracted_text` is what spans point into where a document is HTML, PDF or DOCX; the spans of a
    PDF have their `page`, from 1.

    Args:
        estimated: whether the tokenizer of the budget stands for another.
    """
    return {
        "text": result.text,
        "results": [_passage_json(passage, result) for passage in passages],
        "counts": {
            "windows": result.windows,
            "tokens_scored": result.tokens_read,
            "units": len(result.units),
            "units_scored": result.count_read,
            "truncated": False,
        },
        "usage": {**token_usage(result), "estimated": estimated},
        "timings": {f"{name}_ms": round(ms, 3) for name, ms in result.timings_ms.items()},
        "status": result.status,
        "method": result.method,
        "calibrated": result.calibrated,
        "answerability": result.answerability,
        "verdict": result.verdict,
        "reason": result.reason,
        "warnings": list(result.warnings),
    }


def _passage_json(passage: PassageResult, result: Compressed) -> dict[str, Any]:
    return {
        "index": passage.index,
        "id": passage.passage.id,
        "evidence_score": passage.evidence(result.calibrated),
        "raw_score": passage.raw_score,
        "kept": bool(passage.kept),
        "text": passage.text,
        "extracted_text": passage.passage.text if FORMAT in passage.passage.metadata else None,
        "relevant_spans": [_span_json(u, result) for u in passage.kept],
        "tokens_before": passage.tokens_before,
        "tokens_after": passage.tokens_after,
    }


def _span_json(u: int, result: Compressed) -> dict[str, Any]:
    unit = result.units[u]
    start, end = unit.visible
    span = {"start": start, "end": end, "score": result.scores[u] if result.scores else None}
    page = page_at(result.passages[unit.passage].metadata, start)
    return span if page is None else {**span, "page": page}
