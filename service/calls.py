"""`tamis.compress`: the whole library in one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tamis.compressors._pipeline import DEFAULT_RULES, Compressor
from tamis.compressors._registry import DEFAULT, DEFAULT_PROXY, build
from tamis.compressors._types import Budget, Compressed, Rules
from tamis.probes.errors import UnknownTokenizer
from tamis.probes.text import Passage
from tamis.probes.tokens import Tokens

_built: dict[tuple[Any, ...], Compressor] = {}
_lock = threading.Lock()


def compress(
    question: str,
    passages: Sequence[Passage | str | Mapping[str, Any]],
    *,
    max_tokens: int | None = None,
    ratio: float | None = None,
    threshold: float | None = None,
    method: str = DEFAULT,
    tokenizer: str | Path | Tokens = "proxy",
    proxy: Any = DEFAULT_PROXY,
    rules: Rules = DEFAULT_RULES,
    language: str = "en",
    **options: Any,
) -> Compressed:
    """Keeps the sentences that answer the question, verbatim, within the budget.

    Give one of `max_tokens`, `ratio` and `threshold`. Models are loaded at the first call and kept; calls
    from several threads are safe. Nothing is fetched: a missing proxy raises `ProxyMissing`.

    Args:
        question: what is asked.
        passages: texts, mappings with `text` and maybe `id`, `title`, `metadata`, or `Passage`s.
        max_tokens: the most tokens of output. ratio: the largest share of the input's tokens.
        threshold: keep every sentence with at least this probability.
        method: see `tamis methods`.
        tokenizer: counts the budget: `proxy`, a `tokenizer.json`, a folder with one, or `Tokens`.
        proxy: a zoo name, a folder, or a loaded `Proxy`.
        rules: protected patterns, neighbours, near-duplicates, order, citations, titles.
        language: of the passages, for finding sentences.
        options: the method's own.

    Raises:
        BadInput: and its kinds, for whatever cannot be served. ProxyMissing: no model on this machine.
    """
    budget = Budget(max_tokens, ratio, threshold)
    counter = counter_of(tokenizer, proxy)
    return compressor(method, proxy, counter, **options).compress(
        question, passages, budget, rules, language=language, counter=counter
    )


async def acompress(question: str, passages: Sequence[Any], **arguments: Any) -> Compressed:
    """`compress` in a worker thread: the event loop stays free."""
    return await asyncio.get_running_loop().run_in_executor(
        None, partial(compress, question, passages, **arguments)
    )


def compressor(method: str, proxy: Any, counter: Tokens, **options: Any) -> Compressor:
    """A compressor for these choices, built once and shared."""
    key = (method, proxy if isinstance(proxy, str) else id(proxy), repr(sorted(options.items())))
    with _lock:
        if key not in _built:
            _built[key] = Compressor(build(method, proxy=proxy, **options), method, counter)
        return _built[key]


def counter_of(tokenizer: str | Path | Tokens, proxy: Any = DEFAULT_PROXY) -> Tokens:
    """The tokenizer that counts the budget; the proxy's needs no weights to be loaded.

    Raises:
        UnknownTokenizer: neither `proxy`, a file nor a folder. ProxyMissing: the proxy is not here.
    """
    if isinstance(tokenizer, Tokens):
        return tokenizer
    if tokenizer == "proxy":
        return _proxy_counter(proxy)
    path = Path(tokenizer)
    if not path.exists():
        raise UnknownTokenizer(
            f"there is no tokenizer {str(tokenizer)!r}; give 'proxy', a tokenizer.json or a folder with one"
        )
    return Tokens.from_file(path)


def _proxy_counter(proxy: Any) -> Tokens:
    if not isinstance(proxy, str):
        tokens: Tokens = proxy.layout.tokens
        return tokens
    from tamis.probes.zoo import locate

    folder = Path(proxy) if Path(proxy).is_dir() else locate(proxy)
    return _from_folder(str(folder), proxy)


def _from_folder(folder: str, name: str) -> Tokens:
    with _lock:
        if (found := _counters.get(folder)) is None:
            found = _counters[folder] = Tokens.from_file(folder, name)
        return found


_counters: dict[str, Tokens] = {}
