"""`tamis.compress`: the whole library in one call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from tamis.compressors.method import Method
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY, method_info, method_name
from tamis.compressors.rules import DEFAULT_RULES, Budget, Rules
from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput, UnknownTokenizer
from tamis.probes.hub import sharpened, zoo
from tamis.probes.interruption import end_with_task
from tamis.probes.named_tokenizers import (
    NAMES,
    approximation_warning,
    named_tokenizer,
    tokenizer_of_file,
)
from tamis.probes.tokens import ESTIMATE, FunctionTokenizer, TextTokenizer, estimating_tokenizer
from tamis.service.api.arguments import check_keywords, read_documents, rules_of
from tamis.service.api.languages import STANDARD, choose_proxy
from tamis.service.api.lazy_method import LazyMethod, ordering_methods
from tamis.service.api.model_pool import Built
from tamis.service.api.spans import compression_attributes, traced
from tamis.service.files.document_text import raw_html_warning
from tamis.text.inputs import question_text
from tamis.text.language import AUTO
from tamis.text.types import Passage

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import PassageCache

AnyTokenizer = str | Path | TextTokenizer | Tokenizer | Callable[[str], Any]
_MAX_COUNTERS = 16
_built = Built[Compressor]("compressors")


@traced("compress", compression_attributes)
def compress(
    question: str,
    documents: Sequence[Passage | str | Mapping[str, Any]],
    *,
    max_tokens: int | None = None,
    ratio: float | None = None,
    threshold: float | None = None,
    coverage: float | None = None,
    instruction: str | None = None,
    history: Sequence[str] = (),
    method: str | Method | type[Method] = DEFAULT,
    tokenizer: AnyTokenizer = "proxy",
    proxy: Any = AUTO,
    quality: str = STANDARD,
    rules: Rules | Mapping[str, Any] = DEFAULT_RULES,
    language: str = AUTO,
    root: Path | None = None,
    cache: PassageCache | None = None,
    **options: Any,
) -> Compressed:
    """Keeps the sentences that answer the question, verbatim, within the budget.

    Give a limit (`max_tokens` or `ratio`), a floor (`threshold` or `coverage`), or one of each:
    what the floor asks for, as far as the limit lets it. Models are loaded at the first call and
    kept; calls from several threads are safe. Nothing is fetched: a missing proxy raises
    `ProxyMissing`.

    Args:
        question: what is asked.
        documents: texts, mappings with `text` and maybe `id`, `title`, `metadata`, `Passage`s, or
            documents of LangChain. With `"format": "html"` in a mapping, what the page shows is
            read; spans are into that, which is the passage's text in the result.
        max_tokens: the most tokens of output. ratio: the largest share of the input's tokens.
        threshold: keep every sentence with at least this probability.
        coverage: keep as few sentences as hold all the evidence with this probability; of a
            short text that is often nearly all of it.
        instruction: what to look for, beside the question. history: earlier turns that the question
            depends on, the oldest first; both are read with it.
        method: a name of `tamis methods`, or a method of your own: its class or an instance.
        tokenizer: counts the budget: `proxy`, a `tokenizer.json`, a folder with one, a tokenizer of
            `tokenizers` or `transformers`, a function from a text to its tokens or their number, a
            name such as `gpt-4o` (see `tamis models tokenizers`), or `estimate`, which counts by
            rules within a tenth and loads nothing.
        proxy: a zoo name, a folder, a hub id, or a loaded `Proxy`; `auto` is the one that was
            measured best in the language, of those on this machine.
        quality: `fast` reads English by 14 layers instead of 20: in less time, and fewer answers
            are kept.
        rules: protected patterns, neighbours, near-duplicates, order, citations, titles; also as a
            dict.
        language: of the documents, such as `de`; `auto` looks at them and at the question.
        root: the folder models are kept in; by default models/ in the folder that TAMIS_HOME names,
            or in the user's cache.
        cache: passages in it are not read again, whoever asks; `tokens_cached` says how much that
            was.
        options: the method's own, such as `probe`, the path of one that `tamis lab probe train`
            wrote.

    Raises:
        BadInput: and its kinds, for whatever cannot be served.
        ProxyMissing: the model is not on this machine.
        BadModelFile: its files, or the probe's, are not whole.
    """
    check_parts(method, proxy, cache)
    check_keywords(options, method, compress)
    budget = Budget(max_tokens, ratio, threshold, coverage)
    rules, passages = rules_of(rules), read_documents(documents)
    probe = options.get("probe", AUTO)
    name = method_name(method)
    choice = choose_proxy(proxy, name, language, question, passages, root, probe, quality)
    counter = counter_of(tokenizer, choice.proxy, root)
    built = compressor(method, choice.proxy, counter, root=root, cache=cache, **options)
    result = built.compress(
        question_text(question, instruction, history),
        passages,
        budget,
        rules,
        language=choice.language,
        counter=counter,
    )
    result = choice.add_warning(result)
    raw = raw_html_warning([passage.text for passage in result.passages])
    counted = approximation_warning(counter) if counter.approximates else None
    more = tuple(warning for warning in (raw, counted) if warning)
    return replace(result, warnings=(*result.warnings, *more)) if more else result


def check_parts(method: Any, proxy: Any, cache: Any) -> None:
    """Checks method, proxy and cache before anything is loaded.

    Raises:
        UnknownMethod: no such method. BadInput: a proxy that is neither a name nor a model, or a
            cache that is not one.
    """
    method_info(method)
    if not (isinstance(proxy, str | Path) or hasattr(proxy, "card")):
        raise BadInput(
            f"proxy is {proxy!r:.80}; give a name, a folder, a hub id, or a loaded tamis.Proxy"
        )
    if cache is not None and not hasattr(cache, "files"):
        raise BadInput(
            f"cache is {cache!r:.80}; give tamis.PassageCache(folder=...), made once and kept"
        )


@end_with_task
async def acompress(question: str, documents: Sequence[Any], **arguments: Any) -> Compressed:
    """`compress` in a worker thread: the event loop stays free."""
    return await asyncio.to_thread(compress, question, documents, **arguments)


def compressor(
    method: str | Method | type[Method],
    proxy: Any,
    counter: TextTokenizer,
    *,
    root: Path | None = None,
    cache: PassageCache | None = None,
    **options: Any,
) -> Compressor:
    """A compressor for these choices, built once and shared; its model is loaded when first asked.

    The latest few are kept; those over a loaded proxy go with it. One of a method's instance is not
    kept: whoever made the method keeps it.

    Raises:
        UnknownMethod: no such method. BadInput: an option that the method does not have.
    """

    def build() -> Compressor:
        lazy = LazyMethod(method, proxy, root, cache=cache, **options)
        orders = ordering_methods(proxy, root)
        return Compressor(lazy, method_name(method), counter, orders)

    return _built.get_or_build(build, method, proxy, root, cache, options)


def counter_of(
    tokenizer: AnyTokenizer, proxy: Any = DEFAULT_PROXY, root: Path | None = None
) -> TextTokenizer:
    """The tokenizer that counts the budget; the proxy's needs no weights to be loaded.

    Raises:
        UnknownTokenizer: neither `proxy`, `estimate`, a file, a folder, a tokenizer nor a name
            whose vocabulary is on this machine.
        ProxyMissing: the proxy is not here.
    """
    if not isinstance(tokenizer, str | Path):
        return _given_counter(tokenizer)
    if tokenizer == "proxy":
        return _proxy_counter(proxy, root)
    if tokenizer == ESTIMATE:
        return estimating_tokenizer()
    exists = os.path.exists(tokenizer)  # no error for a name that is too long for a file
    if not exists and str(tokenizer) in NAMES:
        return named_tokenizer(str(tokenizer))
    if not exists:
        raise UnknownTokenizer(
            f"there is no tokenizer {str(tokenizer)!r:.80}; give 'proxy', 'estimate', a "
            f"tokenizer.json or a folder with one, or one of {', '.join(NAMES)}"
        )
    return tokenizer_of_file(Path(tokenizer))


def _given_counter(given: Any) -> TextTokenizer:
    """A tokenizer object or a counting function as the counter of the budget."""
    if isinstance(given, TextTokenizer):
        return given
    plain = getattr(given, "backend_tokenizer", given)  # that of a fast tokenizer of transformers
    if isinstance(plain, Tokenizer):
        return TextTokenizer(plain, getattr(given, "name_or_path", "") or type(given).__name__)
    # tiktoken's `encode` refuses texts that hold a special token; the tokenizers of transformers
    # return a mapping when they are called
    encode = getattr(given, "encode_ordinary", None) or getattr(given, "encode", None)
    if callable(encode):
        return FunctionTokenizer(encode, getattr(given, "name", type(given).__name__))
    if callable(given):
        return FunctionTokenizer(given)
    raise UnknownTokenizer(
        f"tokenizer is {given!r:.80}; give 'proxy', a tokenizer.json, a folder with one, or a "
        "function from a text to its tokens or their number"
    )


def _proxy_counter(proxy: Any, root: Path | None) -> TextTokenizer:
    if not isinstance(proxy, str | Path):
        tokens: TextTokenizer = proxy.layout.tokenizer
        return tokens
    return _folder_counter(zoo.model_folder(proxy, root), _tokenizer_name(proxy))


@lru_cache(_MAX_COUNTERS)
def _folder_counter(folder: Path, name: str) -> TextTokenizer:
    return TextTokenizer.from_file(folder, name)


def _tokenizer_name(proxy: str | Path) -> str:
    """What the tokenizer of a proxy is called once it is loaded: a sharpened one has its base's."""
    if entry := zoo.ZOO.get(str(proxy)):
        return entry.base or entry.name
    if (folder := sharpened.adapters_folder(Path(proxy))) is not None:
        return _tokenizer_name(sharpened.base_model(folder))
    return Path(proxy).resolve().name if Path(proxy).is_dir() else str(proxy)
