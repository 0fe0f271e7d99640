"""What a batch shall do: everything that decides what comes out for a row, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tamis.compressors.types import Budget, Rules
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO

Format = Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]
FORMATS: tuple[Format, ...] = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")
OUTPUTS = ("compressed", "spans", "scores", "tokens_in", "tokens_out", "status", "error")
RAW = "raw"
"""Where a row goes that cannot be shown as its own fields: as the text that was read."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What the input's fields are called; `text` is the one inside a document.

    `history` is a row's earlier turns; None: rows have none.
    """

    id: str = "id"
    query: str = "query"
    documents: str = "documents"
    context: str = "context"
    text: str = "text"
    history: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a part ends: after so many rows, or before it holds more than so many bytes."""

    rows: int = 256
    bytes: int = 8 << 20

    def __post_init__(self) -> None:
        if self.rows < 1 or self.bytes < 1:
            raise BadInput(
                f"a part of {self.rows} rows and {self.bytes} bytes; give at least 1 of both"
            )


@dataclass(frozen=True, slots=True)
class Job:
    """The choices of one batch; plain values, so that a worker elsewhere gets them as JSON.

    Attributes:
        query: asked of every row, instead of the row's own.
        instruction: what to look for in every row, beside its question.
        cache: folder of passages that were read before, by any run; None for no cache.
        max_input: proxy tokens of the longest row that is read; a longer one is an error row.
        prefix: before the name of every field that is added.
        root: where models are; None for the user's cache.
        share: whether short rows may share a reading: faster, and in bf16 what is read together
            moves scores in the third decimal, as it does among the passages of one call.
    """

    budget: Budget
    rules: Rules = field(default_factory=Rules)
    method: str = "question_rows"
    proxy: str = "smollm2-135m"
    probe: str | None = None
    tokenizer: str = "proxy"
    language: str = AUTO
    encoding: str = "utf-8"
    query: str | None = None
    instruction: str | None = None
    cache: str | None = None
    fields: Fields = field(default_factory=Fields)
    max_input: int = 1_000_000
    prefix: str = ""
    format: Format = "jsonl"
    cut: Cut = field(default_factory=Cut)
    root: str | None = None
    share: bool = True

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise BadInput(f"there is no format {self.format!r}; choose from {', '.join(FORMATS)}")
        if self.query is not None and not self.query.strip():
            raise BadInput("the query is empty; ask what the kept sentences shall answer")
        _check_encoding(self.encoding)

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options."""
        return {} if self.probe is None else {"probe": self.probe}

    def name(self, output: str) -> str:
        """What an added field is called."""
        return f"{self.prefix}{output}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Job:
        """The way back from `as_dict`."""
        rules = dict(given["rules"])
        parts = {
            "budget": Budget(**given["budget"]),
            "rules": Rules(**{**rules, "protect": tuple(rules["protect"])}),
            "fields": Fields(**given["fields"]),
            "cut": Cut(**given["cut"]),
        }
        return cls(**{**given, **parts})


def _check_encoding(name: str) -> None:
    """Refuses what Python knows no text encoding of; of no bytes at all it would take any name."""
    try:
        b"a".decode(name)
    except UnicodeError:
        return  # such as UTF-16, which has no such text
    except (LookupError, ValueError) as error:
        raise BadInput(
            f"there is no encoding {name!r}; give utf-8, latin-1 or another that Python knows"
        ) from error


# where models and kept passages are and how long a row may be changes no row that was read
_IRRELEVANT = ("root", "cache", "max_input")


def settings(job: Job) -> dict[str, Any]:
    """What a rerun must have in common with the first run, by name; models by their revision."""
    from importlib.metadata import version

    told = {name: value for name, value in job.as_dict().items() if name not in _IRRELEVANT}
    flat: dict[str, Any] = {"tamis": version("tamis")}
    for name, value in told.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": _plain(one) for inner, one in value.items()}
        else:
            flat[name] = _plain(value)
    return flat | _revisions(job)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _revisions(job: Job) -> dict[str, str]:
    """What the names of models and files stand for today."""
    from hashlib import sha256
    from pathlib import Path

    from tamis.compressors.registry import method_info
    from tamis.probes.hub import zoo

    root = Path(job.root) if job.root else None
    found: dict[str, str] = {}
    if method_info(job.method).needs_proxy:
        found["proxy revision"] = _revision(job.proxy, root)
    if job.probe is not None and Path(job.probe).is_file():
        found["probe sha256"] = sha256(Path(job.probe).read_bytes()).hexdigest()[:16]
    counted = zoo.folder_of(job.proxy, root) if job.tokenizer == "proxy" else Path(job.tokenizer)
    file = counted / "tokenizer.json" if counted.is_dir() else counted
    if file.is_file():
        found["tokenizer sha256"] = sha256(file.read_bytes()).hexdigest()[:16]
    return found


def _revision(proxy: str, root: Any) -> str:
    from pathlib import Path

    from tamis.probes.hub import sharpened, zoo
    from tamis.probes.hub.wheel import sha256
    from tamis.probes.model.loading import folder_revision

    if proxy in zoo.ZOO:
        return zoo.ZOO[proxy].revision
    found = folder_revision(zoo.folder_of(proxy, root))
    learnt = sharpened.adapters_of(Path(proxy))
    return sharpened.revision(found, sha256(learnt / sharpened.WEIGHTS)) if learnt else found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed between two runs' settings, one line each."""
    return [
        f"{name} was {before.get(name, 'unknown')!r} and is {now.get(name, 'unknown')!r}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]
