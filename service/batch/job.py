"""The choices of a batch: what decides the output of a row, and how the batch is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from types import NoneType
from typing import Any, Literal

from tamis.compressors.options import option, options_of
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY, method_class
from tamis.compressors.rules import Budget, Rules
from tamis.probes.errors import BadInput
from tamis.text.language import AUTO

Format = Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]
FORMATS: tuple[Format, ...] = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")
OUTPUT_FIELDS = (
    *("compressed", "spans", "scores", "tokens_in", "tokens_out", "status", "answerability"),
    *("verdict", "reason", "warnings", "error"),
)
QUESTION_FIELD, OLD_QUESTION_FIELD = "question", "query"
"""Where a row's question is if the run does not say; the second is the first's old name."""
RAW_FIELD = "raw"
"""The field for the text of a row that cannot be written as its own fields."""
_of_rows = partial(option, panel="Rows")


@dataclass(frozen=True, slots=True)
class RowFields:
    """The names of the input's fields; `text` is the one inside a document.

    `history` holds a row's earlier turns; None if rows have none.
    """

    id: str = _of_rows("id", "Where a text file's name goes.", flag="--id-field")
    question: str = _of_rows(QUESTION_FIELD, "Where a row's question is.", flag="--question-field")
    history: str | None = _of_rows(
        None,
        "Where a row's earlier turns are, a list of texts, if its question depends on them.",
        flag="--history-field",
    )
    documents: str = _of_rows("documents", "Where a row's documents are.", flag="--documents-field")
    context: str = _of_rows(
        "context", "Where the text of a row without documents is.", flag="--context-field"
    )
    text: str = _of_rows("text", "Where a document's text is.", flag="--text-field")


@dataclass(frozen=True, slots=True)
class PartLimits:
    """The size of a part: it ends after `rows` rows, or before it exceeds `bytes` bytes."""

    rows: int = 256
    bytes: int = 8 << 20

    def __post_init__(self) -> None:
        if self.rows < 1 or self.bytes < 1:
            raise BadInput(
                f"a part of {self.rows} rows and {self.bytes} bytes; give at least 1 of both"
            )


@dataclass(frozen=True, slots=True)
class BatchJob:
    """The choices of one batch; plain values, so that they can be sent to a worker.

    Attributes:
        options: the method's own.
        input_format: of files that are rows, a value of `InputFormat`.
        question: of every row, instead of the row's own.
        instruction: what to search for in every row, beside its question.
        cache: folder of passages that any run has read before; None for no cache.
        only_kept: rows come out without their documents and context.
        max_input: proxy tokens of the longest row that is read; a longer one is an error row.
        prefix: of the name of every field that is added.
        root: folder of models; None for the user's cache.
        share: whether short rows may share a forward pass. That is faster; in bf16 the composition
            of a batch changes scores in the third decimal, as among the passages of one call.
    """

    budget: Budget
    rules: Rules = field(default_factory=Rules)
    method: str = DEFAULT
    proxy: str = DEFAULT_PROXY
    options: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = "proxy"
    language: str = AUTO
    encoding: str = "utf-8"
    input_format: str = "auto"
    question: str | None = None
    instruction: str | None = None
    cache: str | None = None
    fields: RowFields = field(default_factory=RowFields)
    max_input: int = 1_000_000
    prefix: str = ""
    format: Format = "jsonl"
    cut: PartLimits = field(default_factory=PartLimits)
    root: str | None = None
    share: bool = True
    only_kept: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise BadInput(f"there is no format {self.format!r}; choose from {', '.join(FORMATS)}")
        if self.question is not None and not self.question.strip():
            raise BadInput("the question is empty; ask what the kept sentences shall answer")
        _check_encoding(self.encoding)

    @property
    def dropped_fields(self) -> frozenset[str]:
        """The fields of a row that do not come out."""
        fields = self.fields
        return frozenset({fields.documents, fields.context} if self.only_kept else ())

    def field_name(self, output: str) -> str:
        """The name of an added field."""
        return f"{self.prefix}{output}"


def _check_encoding(name: str) -> None:
    """Refuses an unknown text encoding; Python checks it only if there are bytes to decode."""
    try:
        b"a".decode(name)
    except UnicodeError:
        return  # such as UTF-16, in which one byte is not text
    except (LookupError, ValueError) as error:
        raise BadInput(
            f"there is no encoding {name!r}; give utf-8, latin-1 or another that Python knows"
        ) from error


# the folders of models and cached passages and the longest row change no row that was read
_IRRELEVANT_FIELDS = ("root", "cache", "max_input")


def resume_settings(job: BatchJob) -> dict[str, Any]:
    """The settings by name that a rerun must share with the first run; models by revision."""
    from importlib.metadata import version

    relevant = {
        name: value for name, value in asdict(job).items() if name not in _IRRELEVANT_FIELDS
    }
    relevant["options"] = {
        one.name: job.options.get(one.name, one.default)
        for one in options_of(method_class(job.method))
        if not one.is_secret
    }
    flat: dict[str, Any] = {"tamis": version("tamis"), "output fields": list(OUTPUT_FIELDS)}
    for name, value in relevant.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": _json_value(one) for inner, one in value.items()}
        else:
            flat[name] = _json_value(value)
    return flat | _revisions(job)


def _json_value(value: Any) -> Any:
    """A value as a file of JSON has it; of an object, its kind."""
    if isinstance(value, tuple):
        return list(value)
    plain = (str, int, float, dict, list, NoneType)
    return value if isinstance(value, plain) else type(value).__name__


def _revisions(job: BatchJob) -> dict[str, str]:
    """The revisions and hashes of the models and files that the job names."""
    from hashlib import sha256
    from pathlib import Path

    from tamis.compressors.registry import method_info
    from tamis.probes.hub import zoo

    root = Path(job.root) if job.root else None
    found: dict[str, str] = {}
    if method_info(job.method).needs_proxy:
        found["proxy revision"] = _proxy_revision(job.proxy, root)
    for name, value in job.options.items():
        if isinstance(value, str) and Path(value).is_file():
            found[f"{name} sha256"] = sha256(Path(value).read_bytes()).hexdigest()[:16]
    tokenizer = (
        zoo.model_folder(job.proxy, root) if job.tokenizer == "proxy" else Path(job.tokenizer)
    )
    file = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    if file.is_file():
        found["tokenizer sha256"] = sha256(file.read_bytes()).hexdigest()[:16]
    return found


def _proxy_revision(proxy: str, root: Any) -> str:
    from pathlib import Path

    from tamis.probes.hub import sharpened, zoo
    from tamis.probes.hub.wheel import sha256
    from tamis.probes.model.loading import folder_revision

    if proxy in zoo.ZOO:
        return zoo.ZOO[proxy].revision
    found = folder_revision(zoo.model_folder(proxy, root))
    adapters = sharpened.adapters_folder(Path(proxy))
    return (
        sharpened.sharpened_revision(found, sha256(adapters / sharpened.WEIGHTS))
        if adapters
        else found
    )


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two runs' settings, one line each, by their flags."""
    return [
        f"{_flag(name)} was {before.get(name, 'unknown')!r} and is {now.get(name, 'unknown')!r}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]


def _flag(setting: str) -> str:
    """How the command line gives a setting, for messages; the setting itself if it has no flag."""
    group, _, name = setting.partition(".")
    if group == "options":
        return f"--option {name}"
    known = options_of(_FLAGGED[group]) if group in _FLAGGED else ()
    return next(
        (one.flags[0] for one in known if one.name == name), _PART_FLAGS.get(setting, setting)
    )


_FLAGGED: dict[str, type] = {"budget": Budget, "rules": Rules, "fields": RowFields}
_PART_FLAGS = {"cut.rows": "--part-rows", "cut.bytes": "--part-mb, in bytes,"}


BatchEngine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a batch is run; none of it changes the output.

    Attributes:
        shard: the share of the parts that this run does, `(1, 1)` for all.
        gpus: per Ray worker, maybe a fraction.
        stop_on_error: end at the first row that fails, instead of keeping it as an error row.
        retry_errors: repeat the failed rows of completed parts.
        overwrite: remove the batch of another run from the output folder.
    """

    inputs: tuple[str, ...]
    out: str
    engine: BatchEngine = "local"
    workers: int = 1
    gpus: float = 0.0
    shard: tuple[int, int] = (1, 1)
    stop_on_error: bool = False
    retry_errors: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        index, count = self.shard
        if not 1 <= index <= count:
            raise BadInput(
                f"shard {index}/{count} does not exist; give 1/{count} to {count}/{count}"
            )
        if self.gpus and self.engine != "ray":
            raise BadInput(
                f"only workers of Ray get GPUs, {self.gpus:g} each, and the engine is "
                f"{self.engine}; give --engine ray, or leave --gpus-per-worker out"
            )
        if self.workers < 1:
            raise BadInput(f"{self.workers} workers do nothing; give at least 1")
