"""The options of `tamis compress`, many of which other commands share, by their parameters."""

from __future__ import annotations

from typing import Annotated

import typer

from tamis.compressors.options import Option
from tamis.compressors.rules import OUTPUT, SELECTION

MAX_INPUT_TOKENS = 1_000_000
INPUT = "Input"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

SHARED = {
    "paths": Option(
        "Files and folders of text, HTML, PDF and DOCX; `-` is standard input. Without any, what "
        "is piped in. JSON and JSON Lines may hold documents and a question.",
        metavar="PATHS",
        is_argument=True,
    ),
    "question": Option("What the kept sentences shall answer.", short="-q"),
    "instruction": Option("What to look for, beside the question."),
    "history": Option("An earlier turn that the question depends on; repeatable, oldest first."),
    "tokenizer": Option(
        "Counts the budget: `proxy`, `estimate` (by rules, within a tenth), a tokenizer.json or a "
        "folder with one, or a name such as gpt-4o (`tamis models tokenizers`)."
    ),
    "method": Option("How sentences are scored: see `tamis methods`."),
    "proxy": Option(
        "The model that reads: its name, a folder, or a hub id; auto is the one of this machine "
        "that was measured best in the documents' language, see `tamis doctor`."
    ),
    "quality": Option(
        "standard, or fast: English is read by 14 layers instead of 20, in less time, and fewer "
        "answers are kept.",
        SELECTION,
    ),
    "option": Option(
        "An option of the method, see `tamis methods NAME`; repeatable.",
        SELECTION,
        metavar="NAME=VALUE",
    ),
    "probe": Option("What weighs its heads: a file of `tamis lab probe train`."),
    "rank_probe": Option(
        "What ranks whole documents by what its heads saw: a file of `tamis lab probe rank`."
    ),
    "cache": Option(
        "Keep what is read of the documents there; the next question then costs a fraction.",
        metavar="DIR",
    ),
    "isolated": Option(
        "No document moves the score of another: for documents by people who gain by being "
        "chosen. Keeps less where facts are chained.",
        SELECTION,
    ),
    "gate": Option(
        "Of ten windows or more (of up to 512 tokens), stop reading what cannot matter: by the "
        "gate that ships for a proxy (auto; on refuses where none does), or by one that `tamis "
        "lab probe gate` wrote. off reads everything.",
        SELECTION,
        metavar="auto|on|off|FILE",
    ),
    "cascade": Option(
        "Whether a gate may leave those of many passages unread that have too little to do with "
        "the question's words; counts say how many.",
        SELECTION,
    ),
    "quiet": Option("No summary on standard error.", OUTPUT),
    "language": Option(
        "Of the documents, such as de; auto looks at them. Chooses sentences and proxy.", INPUT
    ),
    "encoding": Option("Of the files, such as latin-1.", INPUT),
    "input_format": Option(
        "`auto` reads HTML as what the page shows, `text` as its source; `html` takes every text "
        "for a page.",
        INPUT,
    ),
    "max_input": Option("Refuse more tokens than this.", INPUT, ge=1),
    "offline": Option("Never fetch the default proxy.", INPUT),
}
