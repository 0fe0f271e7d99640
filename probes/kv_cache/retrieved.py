"""Reading by retrieved keys and values: one pass of a question over all kept passages.

question ─► a pass: opening, own tokens, and the keys found in each layer and key head ─► queries
queries × keys of a kept passage ─► the rows that the question pays it: a `Signal`

Any selector of keys finds them: `exact`, or one that another package adds as an entry point of
`tamis.selectors`, which is built over the keys of each layer and key head once and then kept.

The attention is that of RetrievalAttention (arXiv 2409.10516, §3):

    keys of a row   the template's opening   the question's tokens up to it   the kept keys found

Attention over disjoint sets of keys is computed set by set. Each part has its output and the log of
its softmax denominator; joined, they are the attention over the union (§3.3). A key in no part has
no weight.

Departures: the paper attends to one prompt's own keys, each at its place in that prompt. Here kept
passages stand side by side (as in parallel context windows, arXiv 2212.10947): each was read alone
behind the opening, so that it serves every question, and a question takes the places behind the
longest of them. No length of a corpus outgrows the model's positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import ceil, log, prod, sqrt
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tamis.probes.attention.cached import join_passages
from tamis.probes.attention.coded_layer import CodedKVLayer, decode_layers
from tamis.probes.attention.kv_layers import KVLayers, StoredKVLayer, count_tokens, placement_of
from tamis.probes.attention.recorder import (
    AttentionInput,
    KVLayer,
    Recorder,
    StopForward,
    causal_mask,
    group_rows,
)
from tamis.probes.errors import BadInput, ProxyUnsupported, UnknownMethod
from tamis.probes.model.proxy import Proxy
from tamis.probes.plugins import INSTALL, LAB, SELECTORS_GROUP, find_plugins
from tamis.probes.prompt import Prompt, QuestionTokens, Template, token_batches
from tamis.probes.signal import Signal, Want

_SAMPLE_STEP = 32


@dataclass(frozen=True, slots=True)
class Partial:
    """Attention over one set of keys.

    Attributes:
        output: `[..., Q, d]` fp32, the weighted mean of the set's values; 0 over an empty set.
        lse: `[..., Q]` fp32, log-sum-exp of the set's logits; -inf over an empty set.
    """

    output: Tensor
    lse: Tensor


@dataclass(frozen=True, slots=True)
class Exponentials:
    """Logits of keys, exponentiated: weights of a softmax before they are divided by their sum.

    Attributes:
        values: `[..., Q, N]` fp32, exp(logits - shift).
        shift: `[..., Q]` fp32, the largest logit of each query, so that nothing overflows.
    """

    values: Tensor
    shift: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Exponentials:
        """Computes those of logits `[..., Q, N]` fp32, which are overwritten."""
        if not logits.shape[-1]:
            return cls(logits, logits.new_zeros(logits.shape[:-1]))
        shift = _finite(logits.amax(-1))
        return cls(logits.sub_(shift[..., None]).exp_(), shift)

    def attend(self, values: Tensor, missed: Tensor | None = None) -> Partial:
        """The attention over these keys.

        Args:
            values: `[..., N, d]`, or none, `[..., 0, d]`: then the output is 0.
            missed: `[..., Q, N]` bool, keys that were not found; None for none of them.
        """
        weights = self.values
        if missed is not None:
            weights = weights.to(values.dtype, copy=True).masked_fill_(missed, 0.0)
        total = weights.sum(-1, dtype=torch.float32)
        lse = total.log().add_(self.shift)
        if not values.shape[-2]:
            return Partial(total.new_zeros(*total.shape, values.shape[-1]), lse)
        output = (weights.to(values.dtype) @ values).float()
        return Partial(output / total.clamp_min(torch.finfo(torch.float32).tiny)[..., None], lse)


def attend_to_all(
    queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None = None
) -> Partial:
    """Attention of scaled queries `[..., Q, D]` to all of `[..., N, D]` keys.

    Args:
        values: as for `Exponentials.attend`.
        seen: `[Q, N]` bool, which keys each query may attend to; None for all.
    """
    logits = key_logits(queries, keys)
    if seen is not None:
        logits.masked_fill_(~seen, -torch.inf)
    return Exponentials.of(logits).attend(values)


def key_logits(queries: Tensor, keys: Tensor, out: Tensor | None = None) -> Tensor:
    """Logits `[..., Q, N]` fp32 of scaled queries `[..., Q, D]` and keys `[..., N, D]`.

    Args:
        out: where they are written; None for new memory.
    """
    logits = queries @ keys.transpose(-1, -2)
    return logits.float() if out is None else out.copy_(logits)


class Workspace:
    """Memory for the logits of one layer, which the next layer writes over.

    Over a hundred thousand keys and more, pages that are new to the process take longer to get than
    the product that fills them.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def take(self, shape: Sequence[int], lengths: Sequence[int], like: Tensor) -> list[Tensor]:
        """Blocks `[*shape, n]` fp32, one for each of the lengths, on the device of `like`."""
        sizes = [prod(shape) * n for n in lengths]
        if self._memory.numel() < sum(sizes) or self._memory.device != like.device:
            self._memory = torch.empty(sum(sizes), device=like.device)
        parts = torch.split(self._memory[: sum(sizes)], sizes)
        return [part.view(*shape, n) for part, n in zip(parts, lengths, strict=True)]


def attend_to_best(
    blocks: Sequence[tuple[Tensor, Tensor]], k: int
) -> tuple[Partial, list[Exponentials]]:
    """Attention of each query to its best k keys, with the last one's equals.

    Args:
        blocks: logits `[..., Q, n]` fp32, which the second result overwrites, and values
            `[..., n, d]`, or none, as for `Exponentials.attend`.
        k: 1 to the number of keys.

    Returns:
        The attention, and all keys' exponentials, found or not, block by block.
    """
    least = _least_of_best([logits for logits, _ in blocks], k)
    parts, every = [], []
    for logits, own in blocks:
        missed = logits < least
        every.append(Exponentials.of(logits))
        parts.append(every[-1].attend(own, missed))
    return merge(parts), every


def _least_of_best(blocks: list[Tensor], k: int) -> Tensor:
    """The k-th largest logit of each query, `[..., Q, 1]`, of blocks `[..., Q, n]`.

    On the processor every 32nd key says which logits may be among the best, and only those are
    compared; where they turn out to be too few, all of them are.
    """
    if blocks[0].device.type != "cpu":
        return torch.cat(blocks, -1).topk(k).values[..., -1:]
    rows = [block.numpy().reshape(-1, block.shape[-1]) for block in blocks]
    sample = np.concatenate([block[:, ::_SAMPLE_STEP] for block in rows], 1)
    expected = k * sample.shape[1] / sum(block.shape[1] for block in rows)
    some = ceil(expected + 4 * sqrt(expected)) + 8  # by four standard deviations too many
    floors = np.full(len(sample), -np.inf, sample.dtype)
    if some < sample.shape[1]:
        floors = np.partition(sample, -some)[:, -some]
    least = np.empty_like(floors)
    for query, floor in enumerate(floors):
        best = np.concatenate([block[query][block[query] >= floor] for block in rows])
        if len(best) < k:
            best = np.concatenate([block[query] for block in rows])
        least[query] = np.partition(best, -k)[-k]
    return torch.from_numpy(least).view(*blocks[0].shape[:-1], 1)


def attend_to_found(logits: Tensor, values: Tensor, ids: Tensor) -> tuple[Partial, Exponentials]:
    """Attention by logits `[Q, N]` fp32 to the keys that were found for each query.

    Args:
        logits: overwritten by the second result.
        values: `[N, d]`, or none, as for `Exponentials.attend`.
        ids: `[Q, k]`, the keys of each query, each once; -1 is none.

    Returns:
        The attention, and all keys' exponentials, found or not.
    """
    at = ids.clamp_min(0)
    found = Exponentials.of(logits.gather(1, at).masked_fill_(ids < 0, -torch.inf))
    every = Exponentials.of(logits)
    spread = torch.zeros_like(logits).scatter_add_(1, at, found.values)  # -1 adds 0 to key 0
    return Exponentials(spread, found.shift).attend(values), every


def merge(parts: Sequence[Partial]) -> Partial:
    """The attention over the union of disjoint sets.

    Raises:
        BadInput: no parts, or parts of different shapes.
    """
    if len(shapes := {tuple(part.output.shape) for part in parts}) != 1:
        raise BadInput(f"parts have shapes {sorted(shapes)}; give at least one, all of one shape")
    each = torch.stack([part.lse for part in parts])
    lse = each.logsumexp(0)
    weights = (each - _finite(lse)).exp()
    outputs = torch.stack([part.output for part in parts])
    return Partial((weights[..., None] * outputs).sum(0), lse)


def stack(parts: Sequence[Partial]) -> Partial:
    """The attention of several heads, `[Q, d]` each, as `[heads, Q, d]`."""
    return Partial(
        torch.stack([part.output for part in parts]), torch.stack([part.lse for part in parts])
    )


def _finite(lse: Tensor) -> Tensor:
    """Over an empty set, where every logit is -inf, weights are to be 0, not NaN."""
    return lse.masked_fill(lse == -torch.inf, 0.0)


class RetrievedAttention:
    """Computes and records the attention of one question's pass: a `CustomAttention`.

    Args:
        opening: keys and values of the template's opening. kept: what is retrieved from.
        last: the layer that the pass ends with.
        groups: `[R', R]`, what each recorded row takes of the rows of the question's tokens.
        layers: whose rows over all kept keys are recorded.

    Attributes:
        rows: of each recorded layer, `[H, R', N]` fp32: what the question's rows give each kept
            token beside all that they attended to, found or not.
    """

    def __init__(
        self,
        opening: Sequence[KVLayer],
        kept: KeptCorpus,
        last: int,
        groups: Tensor,
        layers: Collection[int],
    ) -> None:
        self._opening, self._kept, self._last = opening, kept, last
        self._groups, self._layers = groups, layers
        self._workspace = Workspace()
        self._asked: list[tuple[Tensor, Tensor]] = []
        self.rows: dict[int, Tensor] = {}

    def rows_over(self, layer: int, passage: StoredKVLayer) -> Tensor:
        """What the recorded rows would give a passage that is not among the kept: `[H, R', N]`."""
        queries, lse = self._asked[layer]
        ((keys, *_), _) = join_passages([passage], queries, with_values=False)
        return self._rows([Exponentials.of(key_logits(queries, keys))], lse)

    def attend(self, given: AttentionInput) -> Tensor:
        """`query [1, H, R, d]` to `[1, R, H, d]`.

        Raises:
            StopForward: this is the last layer.
            ProxyUnsupported: a layer with a window of positions, which kept passages share.
        """
        layer, query, key, value, scale, window = given
        if window is not None:
            raise ProxyUnsupported(
                f"layer {layer} sees {window} tokens back, and passages side by side have the same "
                "places; read them one by one"
            )
        _, H, R, d = query.shape
        heads = key.shape[1]
        queries = (query[0] * scale).reshape(heads, -1, d)
        opening = self._opening[layer]
        seen = causal_mask(0, R, R, None, query.device).repeat(H // heads, 1)
        kept, every = self._kept.attend(layer, queries, layer != self._last, self._workspace)
        found = merge(
            [
                attend_to_all(queries, opening.keys.to(queries), opening.values.to(queries)),
                attend_to_all(queries, key[0], value[0], seen),
                kept,
            ]
        )
        self._asked.append((queries, found.lse.view(H, R)))
        if layer in self._layers:
            self.rows[layer] = self._rows(every, found.lse.view(H, R))
        if layer == self._last:
            self._workspace = Workspace()  # the pass is over: its memory goes back
            raise StopForward
        return found.output.view(H, R, -1).transpose(0, 1)[None].to(query.dtype)

    def _rows(self, every: Sequence[Exponentials], lse: Tensor) -> Tensor:
        """Recorded rows `[H, R', N]` of keys, block by block, by the denominators `[H, R]`."""
        H, R = lse.shape
        return torch.cat(
            [
                self._groups
                * (one.shift.view(H, R) - lse).exp_()[:, None]
                @ one.values.view(H, R, -1)
                for one in every
            ],
            -1,
        )


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

    def search(self, queries: Tensor, k: int, effort: int) -> FoundIds:
        """The best k keys of each of `[Q, D]` queries that this effort finds."""


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
        more = "" if len(plugins) else f"; more come with {INSTALL[LAB]}"
        raise UnknownMethod(f"there is no selector {name!r:.80}; there are: {known}{more}")
    found: BuildSelector = plugins[name].load()
    return found


class KeptCorpus:
    """Keys and values of kept passages side by side, and what queries find of them.

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
        """Attention of scaled queries `[Hkv, Q, d]` to what they find in a layer.

        A block is some passages, or all of them where a selector searches.

        Args:
            with_values: whether the output is needed; else it may be 0.
            workspace: for the exponentials, which the next call with it writes over.

        Returns:
            The attention, and of all kept keys, found or not, the exponentials, block by block.
        """
        batches = list(token_batches(self.passages, BLOCK_TOKENS, count_tokens))
        blocks = (_decode(layer, batch, queries, with_values) for batch in batches)
        if self.keys is not None and self._build is not ExactKeys:
            keys, values = (torch.cat(part, 1) for part in zip(*blocks, strict=True))
            [room] = workspace.take(queries.shape[:-1], [keys.shape[1]], queries)
            logits = key_logits(queries, keys, room)
            parts, shifts = [], []
            for head, selector in enumerate(self._selectors(layer, keys)):
                effort = selector.efforts[round(self._effort * (len(selector.efforts) - 1))]
                ids = selector.search(queries[head], self.keys, effort).ids
                part, seen = attend_to_found(logits[head], values[head], ids)
                parts.append(part)
                shifts.append(seen.shift)
            return self._weigh(stack(parts)), [Exponentials(logits, torch.stack(shifts))]
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
