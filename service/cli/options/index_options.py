"""Options that the commands of `tamis index` and `tamis ask-context` share, by their parameters."""

from __future__ import annotations

from tamis.compressors.options import Option

INDEX = {
    "index": Option("The folder of the index.", metavar="INDEX", is_argument=True),
    "corpus": Option(
        "JSON Lines and Parquet (.gz, .zst), text, Markdown, HTML, PDF and DOCX files, or folders.",
        metavar="CORPUS",
        is_argument=True,
    ),
    "id_field": Option("Rows' field of ids; id, _id, doc_id, docid if none is named."),
    "text_field": Option("Rows' field of text; text, contents, content, body if none is."),
    "title_field": Option("Rows' field of titles."),
    "proxy": Option("The model of the keys: its name, or a folder."),
    "where": Option(
        "Only documents whose metadata meet it: key=a,b key!=a key>=1; repeatable.",
        metavar="CONDITION",
    ),
    "search": Option(
        "How keys are searched: exact, graph or ivf; auto takes what the index has.",
        flag="--search",
    ),
    "questions": Option("Questions that the graph follows, a line each. Default: general ones."),
    "by": Option("Search by these alone: bm25, keys, vectors, with commas."),
    "json": Option("Print JSON."),
}
STRUCTURE = Option(
    "What a search finds keys by: graph, ivf (FAISS), exact for every key; auto is exact below "
    "400,000 keys and graph above."
)
"""`--search` where an index is made."""


def parse_legs(by: str | None) -> list[str] | None:
    """The ways of search in `--by`; None if it was not given."""
    return None if by is None else [word.strip() for word in by.split(",") if word.strip()]
