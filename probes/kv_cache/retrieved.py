"""Reading by retrieved keys and values: one pass of a question over all kept passages.

question ─► a pass: opening, own tokens, and the keys found in each layer and key head ─► queries
queries × keys of a kept passage ─► the rows that the question pays it: a `Signal`

See `attention/retrieved.py` for what is computed, and how it departs from RetrievalAttention. Any
selector of keys finds them: `exact`, or one that another package adds as an entry point of
`tamis.selectors`, which is built over the keys of each layer and key head once and then kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import log
from typing import Protocol

import torch
from torch import Tensor

from tamis.probes.attention.cached import join_passages
from tamis.probes.attention.coded_layer import CodedKVLayer, decode_layers
from tamis.probes.attention.kv_layers import KVLayers, count_tokens, placement_of
from tamis.probes.attention.recorder import Recorder, group_rows
from tamis.probes.attention.retrieved import (
    Exponentials,
    Partial,
    RetrievedAttention,
    Workspace,
    attend_to_best,
    attend_to_found,
    key_logits,
    merge,
    stack,
)
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.probes.model.proxy import Proxy
from tamis.probes.plugins import LAB_INSTALL, SELECTORS_GROUP, find_plugins
from tamis.probes.prompt import Prompt, QuestionTokens, Template, token_batches
from tamis.probes.signal import Signal, Want

BLOCK_TOKENS = 4096
"""Kept tokens whose keys and values are decoded at once."""
EXACT = "exact"


class FoundIds(Protocol):
    """What a search gives: the keys of each query, `ids [Q, k]`, each once; -1 is none."""

    @property
    def ids(self) -> Tensor: ...


class KeySelector(Protocol):
    """Finds the best keys of one head."""

    @property
    def efforts(self) -> Sequence[int]:
        """Efforts worth trying, ascending: the more, the more keys are read and found."""
        ...

    def search(self, queries: Tensor, k: int, effort: int) -> FoundIds:
        """The best k keys of each of `[Q, D]` queries that this effort finds."""
        ...


BuildSelector = Callable[[Tensor, Tensor], KeySelector]
"""From the keys of a head `[N, D]` fp32, in the order of their text, and training queries `[T, D]`
to a selector; which is what the class of one is."""


@dataclass(frozen=True, slots=True)
class ExactIds:
    """The result of `ExactKeys.search`."""

    ids: Tensor


class ExactKeys:
    """Compares a query with every key of `[N, D]`."""

    efforts = (1,)

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = keys

    def search(self, queries: Tensor, k: int, effort: int) -> ExactIds:
        """The best keys; the effort changes nothing."""
        return ExactIds((queries @ self._keys.T).topk(min(k, len(self._keys))).indices)


def find_selector(name: str) -> BuildSelector:
    """A selector by its name.

    Raises:
        UnknownMethod: no such selector. BrokenPlugin: its package cannot be imported.
    """
    if name == EXACT:
        return ExactKeys
    plugins = find_plugins(SELECTORS_GROUP)
    if name not in plugins:
        known = ", ".join([EXACT, *plugins])
        more = "" if len(plugins) else f"; more come with {LAB_INSTALL}"
        raise UnknownMethod(f"there is no selector {name!r:.80}; there are: {known}{more}")
    found: BuildSelector = plugins[name].load()
    return found


class KeptCorpus:
    """Keys and values of kept passages side by side, and what queries find of them: `KeptKeys`.

    Args:
        passages: of each its layers, on the device of the model, as they are kept.
        keys: the most keys that a query attends to; None for all, and then nothing is searched.
        build: makes the selector of each head. train: training queries of a layer, `[Hkv, T, d]`.
        effort: from 0 to 1, where among the selector's efforts.
        average: whether all kept keys together weigh as much as those of one passage, so that W
            copies of a passage are read as that passage, and the best of the keys as nearly all of
            them. Else they are summed, as in one long prompt, and their separators and first tokens
            outweigh everything else: heads of a proxy have learnt how much of a row one passage
            takes.
    """

    def __init__(
        self,
        passages: Sequence[KVLayers],
        keys: int | None = None,
        build: BuildSelector = ExactKeys,
        train: Callable[[int], Tensor] | None = None,
        effort: float = 0.5,
        average: bool = True,
    ) -> None:
        self.passages, self.keys = passages, keys
        self._build, self._train, self._effort = build, train, effort
        self._built: dict[int, list[KeySelector]] = {}
        self.sizes = [count_tokens(passage) for passage in passages]
        self._weighed_as_one = max(1, len(passages)) if average else 1

    def attend(
        self, layer: int, queries: Tensor, with_values: bool, workspace: Workspace
    ) -> tuple[Partial, list[Exponentials]]:
        """As `KeptKeys`; a block is some passages, or all of them where a selector searches."""
        batches = list(token_batches(self.passages, BLOCK_TOKENS, count_tokens))
        blocks = (_decode(layer, batch, queries, with_values) for batch in batches)
        if self.keys is not None and self._build is not ExactKeys:
            keys, values = (torch.cat(part, 1) for part in zip(*blocks, strict=True))
            [room] = workspace.take(queries.shape[:-1], [keys.shape[1]], queries)
            logits = key_logits(queries, keys, room)
            found, every = self._attend_to_found(layer, queries, logits, (keys, values))
            return self._weigh(found), every
        lengths = [sum(map(count_tokens, batch)) for batch in batches]
        pairs = (
            (key_logits(queries, keys, room), values)
            for room, (keys, values) in zip(
                workspace.take(queries.shape[:-1], lengths, queries), blocks, strict=True
            )
        )
        if self.keys is not None:
            found, every = attend_to_best(list(pairs), min(self.keys, sum(self.sizes)))
            return self._weigh(found), every
        parts, every = [], []
        for logits, values in pairs:
            every.append(Exponentials.of(logits))
            parts.append(every[-1].attend(values))
        return self._weigh(merge(parts)), every

    def _weigh(self, found: Partial) -> Partial:
        return Partial(found.output, found.lse - log(self._weighed_as_one))

    def _attend_to_found(
        self, layer: int, queries: Tensor, logits: Tensor, kept: tuple[Tensor, Tensor]
    ) -> tuple[Partial, list[Exponentials]]:
        assert self.keys is not None
        (keys, values), parts, shifts = kept, [], []
        for head, selector in enumerate(self._selectors(layer, keys)):
            effort = selector.efforts[round(self._effort * (len(selector.efforts) - 1))]
            ids = selector.search(queries[head], self.keys, effort).ids
            part, every = attend_to_found(logits[head], values[head], ids)
            parts.append(part)
            shifts.append(every.shift)
        return stack(parts), [Exponentials(logits, torch.stack(shifts))]

    def _selectors(self, layer: int, keys: Tensor) -> list[KeySelector]:
        if layer not in self._built:
            exact = keys.float().contiguous()
            train = exact[:, :0] if self._train is None else self._train(layer)
            self._built[layer] = [self._build(*pair) for pair in zip(exact, train, strict=True)]
        return self._built[layer]


def _decode(
    layer: int, passages: Sequence[KVLayers], like: Tensor, with_values: bool
) -> tuple[Tensor, Tensor]:
    """Keys and values of passages end to end, `[Hkv, N, d]`; or no values, `[Hkv, 0, d]`."""
    stored = [passage[layer] for passage in passages]
    coded = [one for one in stored if isinstance(one, CodedKVLayer)]
    separate = decode_layers(coded, like.dtype) if len(coded) == len(stored) else stored
    keys, values = join_passages(separate, like, with_values)
    joined = torch.cat(keys, 1)
    return joined, torch.cat(values, 1) if with_values else joined[:, :0]


class RetrievedReader:
    """Reads like its proxy, but a question runs once, over all kept passages, whatever is asked.

    Args:
        proxy: that the passages were read with.
        kept: the passages that a question's rows attend to.
        find: the kept layers of a prompt's passage. The objects in `kept` are known again; what a
            row would give another passage is computed from its keys, which are decoded for it.

    Raises:
        BadInput: nothing is kept, or a passage without some of its tokens.
    """

    can_pause = False

    def __init__(self, proxy: Proxy, kept: KeptCorpus, find: Callable[[Prompt], KVLayers]) -> None:
        if not kept.passages:
            raise BadInput("no passage is kept, so there is nothing to retrieve from")
        if any(placement_of(layer) for passage in kept.passages for layer in passage):
            raise BadInput("passages are kept without some of their tokens; keep them whole")
        self.proxy, self.kept, self._find = proxy, kept, find
        self.card, self.layout = proxy.card, proxy.layout

    def ask(self, question: QuestionTokens, want: Want) -> RetrievedAttention:
        """The pass of a question, with the wanted rows over all kept tokens, end to end.

        Raises:
            BadInput: the proxy was loaded with fewer layers, or the longest passage and the
                question together are beyond its context.
        """
        each = torch.eye(len(question.ids), device=self.proxy.device)[question.first_row :]
        groups = group_rows(each, want.rows, question.sentence_rows)
        opening, last = self.proxy.opening_kv(), want.depth - 1
        attention = RetrievedAttention(opening, self.kept, last, groups, set(want.layers))
        recorder = Recorder(frozenset(), (), lengths=(), custom_attention=attention)
        place = len(self.layout.opening) + max(self.kept.sizes)
        every = Want(tuple(range(want.depth)))
        self.proxy._forward([question.ids], [place], recorder, every)
        return attention

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The rows that each prompt's question pays to its passage, among all that it attends to.

        Every token of the passage has its weight, whether its key was found or not: what a row
        would give it beside those that were. A question counts as run with each of its prompts.
        The rows over all kept tokens are in memory at once: `L · H · R' · N` numbers of 4 bytes.
        """
        stops = list(accumulate(self.kept.sizes))
        place = {id(one): n for n, one in enumerate(self.kept.passages)}
        for question, some in groupby(prompts, key=lambda prompt: prompt.question):
            asked = self.ask(question, want)
            for prompt in some:
                stored = self._find(prompt)
                if (n := place.get(id(stored))) is None:
                    rows = [asked.rows_over(layer, stored[layer]) for layer in want.layers]
                else:
                    own = slice(stops[n] - self.kept.sizes[n], stops[n])
                    rows = [asked.rows[layer][..., own] for layer in want.layers]
                yield Signal.cut_to_passage(
                    torch.stack(rows), prompt, want, len(prompt.passage.ids)
                )

    def with_template(self, template: Template) -> RetrievedReader:
        """Itself.

        Raises:
            BadInput: another template, behind whose opening no passage was read.
        """
        if template != self.layout.template:
            raise BadInput(
                f"passages are kept behind the opening of the template {self.layout.template.name} "
                f"and a method asks for {template.name}; choose another, or read them one by one"
            )
        return self
