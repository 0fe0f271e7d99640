"""The options of `tamis compress`, many of which other commands share: their names and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tamis.compressors.rules import BUDGETS, MAX_TOKENS, Budget, check_together
from tamis.service.documents.document_text import InputFormat

MAX_INPUT_TOKENS = 1_000_000

_SELECTION, _OUTPUT, _INPUT = "Selection", "Output", "Input"


Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATHS",
        help="Files and folders of text, HTML, PDF and DOCX; `-` is standard input. Without any, "
        "what is piped in. JSON and JSON Lines may hold documents and a question.",
        show_default=False,
    ),
]
Question = Annotated[
    str | None, typer.Option("--question", "-q", help="What the kept sentences shall answer.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", help=f"Keep at most N tokens; {MAX_TOKENS} if no budget is given."
    ),
]
Ratio = Annotated[
    float | None,
    typer.Option("--ratio", help="Keep at most this share of the tokens, such as 0.2."),
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Keep every sentence of at least this probability."),
]
Coverage = Annotated[
    float | None,
    typer.Option(
        "--coverage",
        help="Keep as few sentences as hold all the evidence with this probability, such as 0.9.",
    ),
]
Instruction = Annotated[
    str | None, typer.Option("--instruction", help="What to look for, beside the question.")
]
History = Annotated[
    list[str] | None,
    typer.Option(
        "--history", help="An earlier turn that the question depends on; repeatable, oldest first."
    ),
]
Tokenizer = Annotated[
    str,
    typer.Option(
        "--tokenizer",
        help="Counts the budget: `proxy`, `estimate` (by rules, within a tenth), a tokenizer.json "
        "or a folder with one, or a name such as gpt-4o (`tamis models tokenizers`).",
    ),
]
Method = Annotated[
    str, typer.Option("--method", help="How sentences are scored: see `tamis methods`.")
]
Proxy = Annotated[
    str,
    typer.Option(
        "--proxy",
        help="The model that reads: its name, a folder, or a hub id; auto is the one of this "
        "machine that was measured best in the documents' language, see `tamis doctor`.",
    ),
]
Quality = Annotated[
    str,
    typer.Option(
        "--quality",
        metavar="standard|best",
        help="best: English is read by a larger model, some 3.5 times as long; `tamis models pull "
        "qwen2.5-coder-0.5b-sharp` gets it.",
    ),
]
Probe = Annotated[
    Path | None,
    typer.Option(
        "--probe",
        help="What weighs its heads: a file of `tamis lab probe train`.",
        show_default=False,
    ),
]
RankProbe = Annotated[
    Path | None,
    typer.Option(
        "--rank-probe",
        help="What ranks whole documents by what its heads saw: a file of `tamis lab probe rank`.",
        show_default=False,
    ),
]

Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Keep what is read of the documents there; the next question then costs a fraction.",
        show_default=False,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object: text, spans, scores, counts.",
        rich_help_panel=_OUTPUT,
    ),
]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Print the kept sentences and their neighbours with their scores.",
        rich_help_panel=_OUTPUT,
    ),
]
ExplainAll = Annotated[
    bool,
    typer.Option(
        "--explain-all",
        help="Print every sentence with its score, kept or not.",
        rich_help_panel=_OUTPUT,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", help="Also write the heat map as a web page.", rich_help_panel=_OUTPUT),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write the text or the JSON here.", rich_help_panel=_OUTPUT),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No summary on standard error.", rich_help_panel=_OUTPUT)
]

Language = Annotated[
    str,
    typer.Option(
        "--language", help="Of the documents, for finding sentences.", rich_help_panel=_INPUT
    ),
]
DocumentLanguage = Annotated[
    str,
    typer.Option(
        "--language",
        help="Of the documents, such as de; auto looks at them. Chooses sentences and proxy.",
        rich_help_panel=_INPUT,
    ),
]
Encoding = Annotated[
    str,
    typer.Option("--encoding", help="Of the files, such as latin-1.", rich_help_panel=_INPUT),
]
InputFormatOption = Annotated[
    InputFormat,
    typer.Option(
        "--input-format",
        help="`auto` reads HTML as what the page shows, `text` as its source; `html` takes every "
        "text for a page.",
        rich_help_panel=_INPUT,
    ),
]
MaxInput = Annotated[
    int,
    typer.Option(
        "--max-input", min=1, help="Refuse more tokens than this.", rich_help_panel=_INPUT
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Never fetch the default proxy.", rich_help_panel=_INPUT),
]


def budget_of(
    max_tokens: int | None, ratio: float | None, threshold: float | None, coverage: float | None
) -> Budget:
    """The budget from the options that were given; `MAX_TOKENS` tokens if there are none."""
    values = zip(BUDGETS, (max_tokens, ratio, threshold, coverage), strict=True)
    given = [name for name, value in values if value is not None]
    check_together(given, lambda name: f"--{name.replace('_', '-')}")
    return Budget(max_tokens if given else MAX_TOKENS, ratio, threshold, coverage)
