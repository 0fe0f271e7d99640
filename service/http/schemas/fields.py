"""What becomes of every field of every request: one table, for the warnings and for the docs.

A field is obeyed, or it has no effect, which the answer says, or it asks for nothing. A field that
a lenient dialect does not know is named in the warnings; in our own dialect it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from tamis.compressors.rules import rule_names

WARNINGS_HEADER = "X-Tamis-Warnings"
REFUSED = "refused"
"""In place of `warnings`: fields that are not known are refused."""
_HEADER = f"header `{WARNINGS_HEADER}`"


@dataclass(frozen=True, slots=True)
class RequestFields:
    """The fields of one request schema.

    Attributes:
        dialect: who sends it, as the documentation says it; of a part, the fields that hold it.
        obeyed: fields that do what they say.
        warned: fields that are known and have no effect, which the answer says.
        unused: fields that ask for nothing that could be left undone.
        warnings: where the answer has its warnings: a field of it, or the response header.
    """

    dialect: str
    obeyed: tuple[str, ...]
    warned: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    warnings: str = REFUSED


_WHOLE = "documents are read in windows, however long; nothing is cut off"
REASONS = {
    "max_tokens_per_doc": _WHOLE,
    "max_chunks_per_doc": _WHOLE,
    "truncate_prompt_tokens": _WHOLE,
    "max_length": _WHOLE,
    "max_tokens_per_query": "the query is read whole",
    "metadata": "documents are ranked by their text alone",
    "rank_fields": "documents are ranked by their text alone",
    "timeout": "the time that an answer may take is timeout_ms, in milliseconds",
    "return_len": "usage has the tokens of all documents",
    "return_token_strs": "ids are returned, not the texts of tokens",
    "add_special_tokens": "texts are counted without special tokens",
    "webhook": "answers are sent to the caller alone",
    "service_tier": "there is one tier; priority sets the order",
    "base_score": "the score of a first stage is not mixed in",
}
"""Why a field has no effect, by its name."""

NOT_WITH_MESSAGES = {
    "documents": "its texts are those of the messages; send documents in a request of their own, "
    "or in a message between tags that config.retrieval_tags names",
    "queries": "a conversation has one question; give query",
    "threshold": "a result is cut to a number of tokens; give max_tokens or ratio",
    "coverage": "no method promises it for what tools return; give max_tokens or ratio",
    "adaptive": "a result is cut to a number of tokens; give max_tokens or ratio",
    "context_window": "lines that belong together are kept together; give a larger ratio",
    "fill": "a result is filled up to its limit as it is; leave it out",
    "dedup": "a repeated line of a log counts; send texts as documents instead",
    "order": "messages keep their places",
    "separator": "messages stay apart; nothing is joined",
    "citations": "compressions has the place of every span",
    "titles": "messages have none",
    "top_n": "no result is left out as a whole; name tools to leave alone in config.exclude_tools",
    "keep_tags": "tags in what a tool returned are its author's; give protect",
    "answerable_floor": "no result is left out as a whole; send texts as documents",
    "unanswerable": "no result is left out as a whole; send texts as documents",
    "granularity": "what a tool returned is cut by its format; send texts as documents",
}
"""Fields of our own requests that are refused beside `messages`, each with what to do."""

_RERANK = (
    "model", "query", "documents", "top_n", "return_documents", "language", "timeout_ms"
)  # fmt: skip
_COMPRESS = (
    *("model", "method", "query", "queries", "instruction", "history", "documents"),
    *("max_tokens", "ratio", "threshold", "coverage", "adaptive", "tokenizer", "language"),
    *("protect", "return", "offset_unit", "on_error", "timeout_ms", "priority", "shadow"),
    *rule_names("http"),
)
REQUESTS: dict[str, RequestFields] = {
    "CohereRequest": RequestFields(
        "Cohere v2: `/v2/rerank`",
        (*_RERANK, "rank_fields", "instruction", "relevant_spans", "priority"),
        ("max_tokens_per_doc",),
        warnings="`meta.warnings`",
    ),
    "RelevantSpans": RequestFields(
        "Cohere v2: `relevant_spans`",
        ("mode", "threshold", "max_spans"),
        warnings="`meta.warnings`",
    ),
    "JinaRequest": RequestFields(
        "Jina, Cohere v1, vLLM, infinity, Contextual, Xinference, DashScope, Fireworks: "
        "`/v1/rerank`",
        (*_RERANK, "rank_fields", "instruction", "raw_scores", "priority"),
        ("max_chunks_per_doc", "max_tokens_per_doc"),
        warnings=f"`meta.warnings`; Fireworks: {_HEADER}",
    ),
    "SglangRequest": RequestFields(
        "SGLang: `/v1/rerank` with `instruct`",
        (*_RERANK, "rank_fields", "instruct"),
        warnings=_HEADER,
    ),
    "CandidatesRequest": RequestFields(
        "LibreChat: `/v1/rerank` with `candidates`",
        ("query", "candidates", "top_n", "model", "timeout_ms"),
        unused=("profile",),
        warnings=_HEADER,
    ),
    "Candidate": RequestFields(
        "LibreChat: `candidates[]`", ("id", "text"), ("base_score",), warnings=_HEADER
    ),
    "VoyageRequest": RequestFields(
        "Voyage: `/v1/rerank` with `top_k`",
        (
            "model", "query", "documents", "rank_fields", "top_k", "return_documents",
            "instruction", "language", "timeout_ms",
        ),
        unused=("truncation",),
        warnings=_HEADER,
    ),
    "TeiRequest": RequestFields(
        "TEI: `/rerank` with `texts`",
        ("query", "texts", "raw_scores", "return_text", "top_n", "instruction", "timeout_ms"),
        unused=("truncate", "truncation_direction"),
        warnings=_HEADER,
    ),
    "PredictRequest": RequestFields(
        "TEI: `/predict`",
        ("inputs", "raw_scores", "timeout_ms"),
        unused=("truncate", "truncation_direction"),
        warnings=_HEADER,
    ),
    "NimRequest": RequestFields(
        "NVIDIA NIM: `/v1/ranking`",
        ("model", "query", "passages", "top_k", "timeout_ms"),
        unused=("truncate",),
        warnings=_HEADER,
    ),
    "NimQuery": RequestFields("NVIDIA NIM: `query`", ("text",), warnings=_HEADER),
    "DeepinfraRequest": RequestFields(
        "DeepInfra: `/v1/inference/{model}`",
        ("queries", "documents", "instruction", "timeout_ms"),
        warnings=_HEADER,
    ),
    "ScoreRequest": RequestFields(
        "vLLM: `/score`",
        (
            "model", "text_1", "text_2", "queries", "documents", "items", "data_1", "data_2",
            "instruction", "language", "priority", "timeout_ms",
        ),
        warnings=_HEADER,
    ),
    "TokenizeRequest": RequestFields(
        "vLLM and TEI: `/tokenize`",
        ("prompt", "inputs", "tokenizer", "timeout_ms"),
        unused=("model",),
        warnings=_HEADER,
    ),
    "MessagesRequest": RequestFields(
        "Headroom: `/v1/compress` with `messages`",
        (
            "messages", "tools", "query", "instruction", "history", "model", "method",
            "token_budget", "max_tokens", "ratio", "tokenizer", "language", "protect", "elision",
            "return", "offset_unit", "on_error", "timeout_ms", "priority", "shadow", "config",
        ),
        unused=("seed", "user"),
        warnings="`warnings`",
    ),
    "Message": RequestFields(
        "Headroom: `messages[]`", ("role", "content"), warnings="returned unchanged"
    ),
    "MessagesConfig": RequestFields(
        "Headroom: `config`",
        (
            "compress_user_messages", "compress_system_messages", "compress_cached",
            "frozen_message_count", "protect_recent", "exclude_tools", "target_ratio",
            "min_tokens_to_compress", "mode", "retrieve_tool", "retrieval_tags",
        ),
        warnings="`warnings`",
    ),
    "HighlightRequest": RequestFields(
        "OpenSearch: `/v1/highlight`",
        ("question", "context", "inputs", "threshold", "model", "timeout_ms"),
        warnings=_HEADER,
    ),
    "HighlightInput": RequestFields(
        "OpenSearch: `inputs[]`", ("question", "context", "timeout_ms"), warnings=_HEADER
    ),
    "InputRequest": RequestFields(
        "The Token Company: `/v1/compress` with `input`",
        ("input", "query", "model", "compression_settings", "timeout_ms"),
        warnings=_HEADER,
    ),
    "CompressionSettings": RequestFields(
        "The Token Company: `compression_settings`", ("aggressiveness",), warnings=_HEADER
    ),
    "CompressRequest": RequestFields(
        "tamis: `/v1/compress`", _COMPRESS, unused=("seed", "user"), warnings=REFUSED
    ),
    "ExplainRequest": RequestFields(
        "tamis: `/v1/explain`",
        (*_COMPRESS, "selections"),
        unused=("seed", "user"),
        warnings=REFUSED,
    ),
    "Document": RequestFields(
        "tamis: `documents[]`",
        ("id", "text", "format", "title", "metadata", "min_tokens", "keep"),
        warnings=REFUSED,
    ),
    "Protect": RequestFields("tamis: `protect`", ("regex", "numbers", "urls"), warnings=REFUSED),
    "AdaptiveBudget": RequestFields(
        "tamis: `adaptive`", ("min_ratio", "max_ratio"), warnings=REFUSED
    ),
    "Return": RequestFields(
        "tamis: `return`", ("spans", "units", "documents", "text"), warnings=REFUSED
    ),
    "CompressBatch": RequestFields("tamis: `/v1/compress/batch`", ("inputs",), warnings=REFUSED),
    "ExpandRequest": RequestFields(
        "tamis: `/v1/expand`",
        ("documents", "spans", "neighbours", "query", "language", "offset_unit", "timeout_ms"),
        warnings=REFUSED,
    ),
    "Span": RequestFields(
        "tamis: `spans[]`", ("index", "start", "end"), unused=("score",), warnings=REFUSED
    ),
    "SearchRequest": RequestFields(
        "tamis: `/v1/search`",
        ("query", "k", "index", "where", "by", "search", "timeout_ms"),
        warnings=REFUSED,
    ),
}  # fmt: skip
"""The fields of each request schema, by the name of its class."""
