"""All knobs of the service: flags, variables, defaults and help are made from this table.

`--queue-tokens` is `TAMIS_QUEUE_TOKENS` is `Settings.queue_tokens`. Nothing heavy is imported here,
so that `tamis --help` stays quick; `environment` parses and checks the values.
"""

from __future__ import annotations

# ruff: noqa: RUF009  option() is dataclasses.field with a shorter name
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tamis.compressors.options import Option, option, options_of
from tamis.compressors.registry import DEFAULT
from tamis.probes.errors import BadInput
from tamis.service.api.languages import STANDARD
from tamis.text.inputs import MAX_QUESTION_CHARS

PREFIX = "TAMIS_"
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
_ORIGIN = re.compile(r"[a-z][a-z\d+.-]*://[^/?#\s]+")
Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Storage = Literal["exact", "int8", "thin"]
Engine = Literal["local", "ray"]
LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
Traces = Literal["off", "on", "scores"]
DEFAULT_CACHE_BYTES = 512 << 20
"""About 35,000 tokens of the default proxy."""
# the settings of each group that help shows
_network = partial(option, panel="Network")
_model = partial(option, panel="Model")
_engine = partial(option, panel="Engine")
_cache = partial(option, panel="Cache")
_upstream = partial(option, panel="Upstream")
_copies = partial(option, panel="Copies")
_limits = partial(option, panel="Limits")
_shutdown = partial(option, panel="Shutdown")
_log = partial(option, panel="Log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a service; each has its help text."""

    host: str = _network("127.0.0.1", "The address to listen on.")
    port: int = _network(8080, "The port to listen on; 0 for any that is free.", ge=0, le=65535)
    api_keys: tuple[str, ...] = _network(
        (), "Keys that open the service, as `name:key`; better as a variable than a flag."
    )
    keys_file: Path | None = _network(None, "A file of hashed keys, made by `tamis keys new`.")
    rate_limit: str | None = _network(None, "The most requests of one key, such as 600/minute.")
    allow_public: bool = _network(
        False,
        "Without any key, listen on other addresses than this machine's, and answer to every name "
        "of the service.",
    )
    cors_origins: tuple[str, ...] = _network((), "Web origins whose pages may call the service.")

    proxy: str = _model(
        "auto", "The model that reads: a name, a folder, a hub id; auto: by language."
    )
    quality: str = _model(
        STANDARD,
        "standard, or fast: English is read by 14 layers instead of 20, in less time, and fewer "
        "answers are kept.",
    )
    language: str = _model("en", "Of most documents: it chooses the proxy under auto.")
    home: Path | None = _model(
        None, "Cache folder of tamis; models lie in its models/. Default: the user's cache."
    )
    method: str = _model(DEFAULT, "The method where a request names none.")
    methods: tuple[str, ...] = _model(
        (), "The methods that are served; all of them if none is named."
    )
    gate: bool = _model(
        True,
        "Of ten windows or more, stop reading after the first layers what cannot matter; only for "
        "proxies that ship with a gate, such as the default one.",
    )
    cascade: bool = _model(
        True,
        "Whether a gate may leave those of many passages unread that have too little to do with "
        "the question's words; counts say how many.",
    )
    isolated: bool = _model(
        False,
        "No document moves the score of another; only methods that can promise it are served.",
    )
    device: Device = _model("auto", "Where the model runs.")
    dtype: Dtype = _model(
        "auto",
        "Its numbers; auto is bfloat16 where the processor has it; int8 (VNNI) saves a sixth.",
    )
    threads: int | None = _model(None, "Threads of the model; by default one a core.", ge=1)
    warmup: bool = _model(True, "Read one batch before saying ready.")
    tokenizers: tuple[str, ...] = _model(
        (), "Tokenizers that budgets may be counted in, as `name=tokenizer.json`."
    )
    indexes: tuple[str, ...] = _model((), "Indexes that /v1/search looks in, as `name=folder`.")

    queue_tokens: int = _engine(
        32768, "Tokens that may wait or be read; more are refused with 429.", ge=1
    )
    batch_tokens: int | None = _engine(
        None, "Tokens of one forward pass; by default 1024 on a CPU, 16384 on a GPU.", ge=16
    )
    max_requests: int = _engine(128, "Requests at a time; more are refused with 429.", ge=1)
    timeout_s: float = _engine(60.0, "The longest a request may take.", gt=0)
    stall_s: float = _engine(
        300.0, "A forward pass that takes longer is given up, and the model replaced.", gt=0
    )
    cache_bytes: int | None = _cache(
        None,
        "Memory for passages that were read before; 0 for no cache. Default: 512 MiB, and 0 where "
        "keys have several owners.",
        ge=0,
    )
    cache_folder: Path | None = _cache(None, "Also keep them on disk, here.")
    cache_storage: Storage = _cache(
        "exact",
        "int8 takes half the room and moves scores a little, thin a seventh and moves them more.",
    )
    retrieve_bytes: int = _cache(
        0,
        "Memory for texts that were shortened, which /v1/retrieve gives back; 0 keeps none.",
        ge=0,
    )
    retrieve_s: float = _cache(900.0, "Seconds for which such a text can be retrieved.", gt=0)

    result_cache_mb: int = _cache(
        0,
        "Megabytes for answers of /v1/compress, which the same request gets again; 0 keeps none.",
        ge=0,
    )
    upstream: str | None = _upstream(
        None,
        "A service that speaks OpenAI's or Anthropic's API: chats are forwarded to it, what tools "
        "returned in them shortened.",
    )
    upstream_api_key: str | None = _upstream(
        None, "Its key, sent in place of the client's; better as a variable than a flag."
    )
    upstream_cached: bool = _upstream(
        False,
        "Also shorten what stands before the last cache_control: it reads the same in every later "
        "request, as long as all of them come this way.",
    )
    upstream_compress_s: float = _upstream(
        10.0, "The longest a chat may wait for its results to be shortened.", gt=0
    )
    upstream_read_s: float = _upstream(
        1.0,
        "The longest that reading a chat's results may take; where it would take longer, they are "
        "shortened by their words, which the answer says.",
        gt=0,
    )
    upstream_steps: bool = _upstream(
        True, "Leave out results that a later step made needless, where that pays."
    )
    upstream_price: float | None = _upstream(
        None, "Of a million tokens of input: answers say what was saved.", gt=0
    )
    upstream_price_cached: float | None = _upstream(
        None, "Of a million from its cache. Default: a tenth of the price.", ge=0
    )
    upstream_price_cache_write: float | None = _upstream(
        None, "Of a million written there. Default: 1.25 of the price.", ge=0
    )
    upstream_cache_s: float = _upstream(
        300.0, "Seconds for which it keeps a prompt's beginning.", ge=0
    )
    upstream_more_requests: float = _upstream(
        0.0,
        "Requests expected to follow in a conversation, which pay for a changed beginning.",
        ge=0,
    )
    upstream_paths: tuple[str, ...] = _upstream(
        (),
        "More paths below /v1/ that are sent on, such as files,batches: with all below them, and "
        "every method.",
    )
    upstream_retrieval_tags: tuple[str, ...] = _upstream(
        (),
        "Tags, such as context,documents, between which chats have what was retrieved: it is "
        "compressed, too.",
    )
    upstream_timeout_s: float = _upstream(
        600.0, "The longest to wait for its answer to begin, or to go on.", gt=0
    )

    engine: Engine = _copies(
        "local",
        "local: this process alone; ray: copies of the service on Ray Serve, here or on the "
        "cluster of RAY_ADDRESS.",
    )
    replicas: int = _copies(
        1, "Copies under --engine ray, each with a model and a queue of its own.", ge=1
    )

    max_body_bytes: int = _limits(
        8 << 20, "The largest body, unpacked; a larger one is 413.", ge=1024
    )
    max_documents: int = _limits(1000, "Documents of one request; more are 422.", ge=1)
    max_request_tokens: int = _limits(
        262144, "Tokens of one request, documents and questions; more are 413.", ge=64
    )
    max_question_chars: int = _limits(
        MAX_QUESTION_CHARS, "Characters of a question; more are 422.", ge=1
    )
    max_inputs: int = _limits(100, "Inputs or questions of one call; more are 422.", ge=1)
    body_timeout_s: float = _limits(20.0, "The longest a body may take to arrive.", gt=0)
    header_timeout_s: float = _limits(10.0, "The longest the headers may take.", gt=0)
    max_connections: int = _limits(1024, "Open connections; more are 503.", ge=1)

    drain_delay_s: float = _shutdown(
        0.0, "On SIGTERM, report unready for so long before shutting down.", ge=0
    )
    drain_timeout_s: float = _shutdown(
        30.0, "How long requests that are there may take to finish.", gt=0
    )
    log_format: LogFormat = _log("auto", "auto is console on a terminal, else json.")
    log_level: LogLevel = _log("info", "What is logged; texts never are.")
    traces: Traces = _log(
        "off",
        "Spans of compressions and rerankings to the OpenTelemetry collector that OTEL_* variables "
        "name; scores: with those of rerankings.",
    )

    def __post_init__(self) -> None:
        """Refuses settings without effect, and what would send this service's keys elsewhere.

        Raises:
            BadInput: a cache folder or storage without a cache, tags or paths without an upstream,
                prices that cannot be,
                copies without an engine for them, or an upstream without a key of its own beside
                keys of this service.
        """
        if self.cache_bytes == 0 and (self.cache_folder or self.cache_storage != "exact"):
            raise BadInput(
                "cache_folder and cache_storage say how passages are kept, and cache_bytes is 0, "
                "so that none are; give cache_bytes, such as 2000000000, or leave them out"
            )

        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise BadInput(
                    f"cors_origins has {origin!r}, which is no origin; give one such as "
                    "https://app.example.com, without a path, or *"
                )
        if self.upstream and (self.api_keys or self.keys_file) and not self.upstream_api_key:
            raise BadInput(
                "with keys of its own this service would send them to the upstream; give "
                "upstream_api_key, which is sent instead"
            )

        if self.upstream_retrieval_tags and not self.upstream:
            raise BadInput(
                "upstream_retrieval_tags are of chats that are forwarded, and there is no "
                "upstream; give it, or send config.retrieval_tags with the messages"
            )

        if (cached := self.upstream_price_cached) is not None:
            price, write = self.upstream_price, self.upstream_price_cache_write
            if price is None or cached > min(price, price if write is None else write):
                raise BadInput(
                    f"upstream_price_cached is {cached:g}, upstream_price {price or 'not given'} "
                    f"and upstream_price_cache_write {'not given' if write is None else write}: "
                    "tokens from the cache cost the least, of a price that is known"
                )

        if self.upstream_paths and not self.upstream:
            raise BadInput(
                "upstream_paths are sent on to the upstream, and there is none; give upstream, too"
            )

        if self.engine == "local" and self.replicas > 1:
            raise BadInput(f"{self.replicas} replicas need --engine ray; one process is one copy")

    def cache_bytes_for(self, owners: int) -> int:
        """The memory for passages that were read before.

        By default none where keys have several owners: by timing, one could tell whether a passage
        of another was read.
        """
        if self.cache_bytes is not None:
            return self.cache_bytes
        return DEFAULT_CACHE_BYTES if owners < 2 or self.cache_folder else 0

    @property
    def local_hosts(self) -> tuple[str, ...]:
        """The names of the service in URLs of programs on its machine, without a port."""
        return tuple(dict.fromkeys(map(_host_in_url, (*LOCAL_HOSTS, self.host.lower()))))

    @property
    def models(self) -> Path:
        """The folder models are kept in."""
        from tamis.probes.hub.zoo import models_root

        return models_root(self.home / "models" if self.home else None)


KNOBS: tuple[Option, ...] = options_of(Settings)
_OTHER_VARIABLES = frozenset({"TAMIS_API_KEY", "TAMIS_KEYS", "TAMIS_TARGET"})
"""Variables with the prefix that are read by clients, the smoke test and the compose file."""


def variable(name: str) -> str:
    """The environment variable of a knob."""
    return PREFIX + name.upper()


def unknown_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables with tamis's prefix that nothing reads, each with the way out."""
    known = {*_OTHER_VARIABLES, *(variable(k.name) for k in KNOBS)}
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            yield name, f"{hint}`tamis serve --help` lists them all"


def flag(name: str) -> str:
    """The flag of a knob."""
    return "--" + name.replace("_", "-")


def http_url(host: str, port: int) -> str:
    """The address of a service; an IPv6 host is put in brackets."""
    return f"http://{_host_in_url(host)}:{port}"


def _host_in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
