"""`tamis.ask_context`: from a question and an index to a prompt, in one call.

index.search ─► top chunks ─► read once: chunks ranked, sentences scored ─► budget ─► prompt
  search_ms                     the stages of `tamis.compress`                      [doc#start-stop]

Chunks are read one by one, or, `read="retrieved"`, all at once: the question runs once, and attends
to the kept keys and values of all of them (`probes/kv_cache/retrieved.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tamis.compressors.registry import DEFAULT, layers_needed, method_info
from tamis.compressors.rules import MAX_TOKENS, Rules
from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput
from tamis.retrieval.index.store import CorpusIndex, Hit, Hits
from tamis.service.api.arguments import check_keywords
from tamis.service.api.compress import compress
from tamis.service.api.languages import STANDARD, choose_proxy
from tamis.service.api.model_pool import shared_proxy
from tamis.text.language import AUTO, DEFAULT_LANGUAGE
from tamis.text.types import Passage

ReadingKind = Literal["cold", "warm", "none"]
Read = Literal["passages", "retrieved"]
INDEX_SEARCH = "index"
"""The selector of keys that is the index's own search: those of the chunks that it finds."""
TOP_K = 20
CITATIONS = "[{id}]\n"
RULES = Rules(order="score", citations=CITATIONS)


@dataclass(frozen=True, slots=True)
class Citation:
    """The source of a part of the prompt: code points `[start, stop)` of document `doc`.

    Attributes:
        chunk: the id written before it in the prompt. text: the part, verbatim.
        score: of its best sentence; None where everything fitted and nothing was scored.
    """

    doc: str
    start: int
    stop: int
    text: str
    chunk: str
    title: str | None
    score: float | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AskedContext:
    """A prompt from an index, and the source of every part of it.

    Attributes:
        text: the kept sentences, each chunk's under its id.
        citations: the runs of kept sentences, chunk by chunk in the order of `hits`.
        hits: the chunks that were read, best first as ranked by the index.
        tokens_in: of all of them. tokens_out: of `text`.
        timings_ms: `search`, then the stages of compression, and `total`.
        keys_read: as of `CorpusIndex.search`.
        tokens_read: tokens of chunks and questions that ran through the proxy. tokens_cached: of
            chunks that did not, since what was read before is kept, by the index or in a cache.
    """

    text: str
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    tokens_in: int
    tokens_out: int
    compressed: Compressed | None
    timings_ms: Mapping[str, float]
    keys_read: int = 0
    tokens_read: int = 0
    tokens_cached: int = 0

    @property
    def reading(self) -> ReadingKind:
        """How the chunks were read: `warm` if any was kept, `cold` if none was, or `none`."""
        if self.tokens_cached:
            return "warm"
        return "cold" if self.tokens_read else "none"


def ask_context(
    index: CorpusIndex | str | Path,
    question: str,
    *,
    max_tokens: int = MAX_TOKENS,
    top_k: int = TOP_K,
    where: Mapping[str, Any] | Sequence[str] | str | None = None,
    by: Sequence[str] | None = None,
    search: str = "auto",
    method: str = DEFAULT,
    proxy: Any = AUTO,
    quality: str = STANDARD,
    rules: Rules = RULES,
    root: Path | None = None,
    cache: Any = None,
    read: Read = "passages",
    selector: str = INDEX_SEARCH,
    keys: int | None = None,
    **options: Any,
) -> AskedContext:
    """Finds chunks, ranks them by reading, and keeps the sentences that answer, within a budget.

    What an index or a `cache` keeps is not read: see `reading`.

    Args:
        index: an open index, or its folder.
        max_tokens: of output, citations included.
        top_k: chunks that are read.
        where, by, search: as for `CorpusIndex.search`.
        cache: as for `tamis.compress`; by default what the index keeps, if for this proxy.
        method, proxy, quality, rules, root, options: as for `tamis.compress`; `tokenizer`, too.
        read, selector, keys: for research, see lab/docs/index-search.md.

    Raises:
        BadInput: and its subclasses, for what cannot be served. BadIndex: the index is damaged.
        ProxyMissing: a model is not on this machine.
    """
    if max_tokens < 1:
        raise BadInput(f"max_tokens is {max_tokens}; give a whole number of at least 1")
    own = {name: value for name, value in options.items() if name != "tokenizer"}
    check_keywords(own, method, ask_context)
    check_reading(read, selector, keys)
    if read == "retrieved" and not method_info(method).needs_proxy:
        raise BadInput(f"{method} reads no keys and values; leave out read, or the method")
    clock = time.perf_counter()
    loaded = None if isinstance(proxy, str | Path) else proxy
    if not isinstance(index, CorpusIndex):
        index = CorpusIndex.open(index, proxy=loaded, root=root)
    if read == "retrieved" and selector != INDEX_SEARCH:
        hits = index.all_chunks(where)
    else:
        hits = index.search(question, top_k, where, by=by, search=search)
    search_ms = (time.perf_counter() - clock) * 1e3
    if not hits:
        timings = {"search": search_ms, "total": search_ms}
        return AskedContext("", (), (), 0, 0, None, timings, hits.keys_read)
    passages = _passages(hits)
    probe = options.get("probe", AUTO)
    choice = choose_proxy(
        proxy, method, language_of(index), question, passages, root, probe, quality
    )
    reader = choice.proxy
    if read == "retrieved":
        reader = _retrieved_reader(index, reader, method, passages, keys, selector, root, own)
    if (cache is None or read == "retrieved") and index.manifest.settings.kv is not None:
        from tamis.service.api.kept_chunks import cache_of

        cache = cache_of(index, choice.proxy)
    result = compress(
        question,
        passages,
        max_tokens=max_tokens,
        method=method,
        proxy=reader,
        rules=rules,
        language=choice.language,
        root=root,
        **({} if cache is None else {"cache": cache}),
        **options,
    )
    result = choice.add_warning(result)
    timings = {"search": search_ms, **result.timings_ms}
    timings["total"] = (time.perf_counter() - clock) * 1e3
    return AskedContext(
        result.text,
        tuple(_citations(result, hits)),
        tuple(hits),
        result.tokens_in,
        result.tokens_out,
        replace(result, timings_ms=timings),
        timings,
        hits.keys_read,
        result.tokens_read,
        result.tokens_cached,
    )


def rank_retrieved(
    index: CorpusIndex,
    question: str,
    k: int,
    *,
    selector: str = INDEX_SEARCH,
    keys: int | None = None,
    where: Any = None,
    root: Path | None = None,
    **how: Any,
) -> Hits:
    """The best chunks for a question by how it attends to their kept keys and values, best first.

    Args:
        k: how many; with the selector `index` those of a search, in another order.
        selector, keys, where, root: as for `ask_context`. how: `by` and `search`.

    Raises:
        As `ask_context`.
    """
    from tamis.service.api.rerank import rerank

    check_reading("retrieved", selector, keys)
    by_index = selector == INDEX_SEARCH
    hits = index.search(question, k, where, **how) if by_index else index.all_chunks(where)
    if not hits:
        return hits
    passages = _passages(hits)
    choice = choose_proxy(AUTO, DEFAULT, language_of(index), question, passages, root)
    reader = _retrieved_reader(index, choice.proxy, DEFAULT, passages, keys, selector, root, {})
    ranked = rerank(question, passages, top_n=k, proxy=reader, language=choice.language, root=root)
    found = (replace(hits[one.index], score=one.score) for one in ranked.results)
    return Hits(found, hits.keys_read)


def _passages(hits: Sequence[Hit]) -> list[Passage]:
    """Chunks as passages, as they were read when the index was built."""
    return [Passage(h.text, h.id, h.title_line, h.metadata, pieces=h.pieces) for h in hits]


def _retrieved_reader(
    index: CorpusIndex,
    proxy: Any,
    method: str,
    passages: Sequence[Passage],
    keys: int | None,
    selector: str,
    root: Path | None,
    options: Mapping[str, Any],
) -> Any:
    """What reads chunks of an index by their kept keys and values, as far as a method reads."""
    from tamis.service.api.kept_chunks import check_keeps, retrieved_reader

    check_keeps(index, proxy)
    name = proxy if isinstance(proxy, str | Path) else proxy.card.name
    layers = layers_needed(method, name, **options)
    model = shared_proxy(proxy, layers, root)
    chosen = "exact" if selector == INDEX_SEARCH else selector
    return retrieved_reader(index, model, layers or model.depth, passages, keys, chosen)


def check_reading(read: str, selector: str, keys: int | None) -> None:
    """Refuses what is no way of reading, and options that a way does not have.

    Raises:
        BadInput: with what to give instead. UnknownMethod: no such selector.
    """
    if read not in get_args(Read):
        raise BadInput(f"read is {read!r:.80}; give one of {', '.join(get_args(Read))}")
    if read == "passages" and (selector != INDEX_SEARCH or keys is not None):
        raise BadInput(
            "selector and keys are of read='retrieved', and read is 'passages'; give that, or "
            "leave them out"
        )
    if keys is not None and keys < 1:
        raise BadInput(f"keys is {keys}; give at least 1, or leave it out for all")
    if selector == INDEX_SEARCH:
        return
    from tamis.probes.kv_cache.retrieved import EXACT, find_selector

    find_selector(selector)
    if keys is None and selector != EXACT:
        raise BadInput(f"selector {selector!r:.80} finds some of the keys; say how many, by keys")


def language_of(index: CorpusIndex) -> str:
    """The index's language; `auto` if it is `en`, since `en` may be just the default."""
    language = index.manifest.settings.language
    return AUTO if language == DEFAULT_LANGUAGE else language


def _citations(result: Compressed, hits: Sequence[Hit]) -> list[Citation]:
    found = []
    for number, hit in enumerate(hits):
        for start, stop in result.spans(number):
            inside = [
                kept.score
                for kept in result.kept
                if kept.passage == number and start <= kept.start < stop
            ]
            found.append(
                Citation(
                    hit.doc,
                    hit.start + start,
                    hit.start + stop,
                    hit.text[start:stop],
                    hit.id,
                    hit.title,
                    max(inside) if result.scores else None,
                    hit.metadata,
                )
            )
    return found
