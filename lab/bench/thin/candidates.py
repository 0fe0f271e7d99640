"""The rows of `bench thin`: a policy at a share, with or without stand-ins, or a storage."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.thin_layer import Placement, ThinKVLayer
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.codec import shipped_codec
from tamis.probes.kv_cache.storage import layer_bytes, store_layers, thin_layer
from tamis.probes.prompt import Prompt
from tamis_lab.methods.kv_thinning.contract import EvictionClass, EvictionPlan
from tamis_lab.methods.kv_thinning.passage_rows import PassageRows
from tamis_lab.methods.kv_thinning.thinning import stand_in_count, thin_layers, unit_of_tokens
from tamis_lab.methods.registry import EVICTIONS

ORACLE = "asked"
"""`sage:asked` ranks by the question that is asked: the upper bound that no cache can reach."""
_BITS = re.compile(r"k([1-8])v([1-8])")
_ID_BYTES = 2
_INT8_VECTOR_EXTRA = 4


@dataclass(frozen=True, slots=True)
class ThinnedPassage:
    """A passage as a candidate keeps it.

    Attributes:
        layers: what is asked. plan: what it keeps; None for all tokens.
        bytes_exact, bytes_int8: of the entry, all extras included. fill_ms: CPU time of choosing.
    """

    layers: KVLayers
    plan: EvictionPlan | None
    bytes_exact: int
    bytes_int8: int
    fill_ms: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table.

    Attributes:
        policy: an eviction, `sage:asked`, `exact`, `int8`, `thin`, or bits such as `k3v2`.
        share: of key-value pairs that an eviction keeps. stand_in: whether the others get one.
    """

    policy: str
    share: float = 1.0
    stand_in: bool = False

    @property
    def name(self) -> str:
        """The row's name."""
        if self.share == 1:
            return self.policy
        return f"{self.policy} {self.share:g}{' +stand-ins' if self.stand_in else ''}"

    def thin(self, rows: PassageRows, prompt: Prompt, kept: Sequence[KVLayer]) -> ThinnedPassage:
        """What it keeps of a passage, from its exact layers."""
        clock = time.process_time()
        if self.policy in ("exact", "int8", "thin"):
            codec = shipped_codec(rows.proxy.card)
            stored = store_layers(kept, self.policy, codec=codec)  # type: ignore[arg-type]
            return _whole(stored, clock)
        if found := _BITS.fullmatch(self.policy):
            bits = int(found[1]), int(found[2])
            exact = [one for one in store_layers(kept, "exact") if isinstance(one, KVLayer)]
            return _whole([thin_layer(one, *bits) for one in exact], clock)
        ids, spans = prompt.passage.ids, _token_spans(prompt)
        plan = self._plan(rows, prompt, kept)
        layers = thin_layers(kept, plan, spans if self.stand_in else None)
        ms = (time.process_time() - clock) * 1e3 + rows.kept_ms
        return ThinnedPassage(layers, plan, *_entry_bytes(layers, len(ids)), ms)

    def _plan(self, rows: PassageRows, prompt: Prompt, kept: Sequence[KVLayer]) -> EvictionPlan:
        policy, _, oracle = self.policy.partition(":")
        eviction: EvictionClass = EVICTIONS.load(policy)
        ids = prompt.passage.ids
        if oracle:
            passage = rows.passage(ids, kept, "")
            asked = rows.asked_rows(ids, kept, [prompt.question])
            passage = type(passage)(passage.keys, passage.values, asked, seed=passage.seed)
        else:
            passage = rows.passage(ids, kept, eviction.info.needs)
        share = self.share
        if self.stand_in and not eviction.info.shares:
            units = stand_in_count(unit_of_tokens(_token_spans(prompt), len(ids)))
            share = max(share - units / len(ids), 1 / len(ids))  # stand-ins are paid for
        return eviction().keep(passage, share)


def parse_candidates(
    policies: Sequence[str], shares: Sequence[float], stand_ins: Sequence[str]
) -> list[Candidate]:
    """The rows of the table: `exact` first, each policy at each share, those named with stand-ins.

    Raises:
        UnknownMethod: no such policy. BadInput: an oracle of a policy that has none, or a share
            outside (0, 1).
    """
    if bad := [share for share in shares if not 0 < share < 1]:
        raise BadInput(f"shares are {bad}; give shares between 0 and 1")
    found = [Candidate("exact")]
    for policy in policies:
        if policy in ("exact", "int8", "thin") or _BITS.fullmatch(policy):
            found.append(Candidate(policy))
            continue
        name, _, oracle = policy.partition(":")
        if oracle and policy != f"sage:{ORACLE}":
            raise BadInput(f"policy is {policy!r}; only sage:{ORACLE} looks at the question")
        EVICTIONS.check(name)
        for share in shares:
            found.append(Candidate(policy, share))
            if policy in stand_ins:
                found.append(Candidate(policy, share, stand_in=True))
    return list(dict.fromkeys(found))


def kept_mask(plan: EvictionPlan, tokens: int) -> torch.Tensor:
    """Which tokens each head keeps: `[L, Hkv, N]` bool."""
    masks = []
    for ids in plan.ids:
        mask = torch.zeros(len(ids), tokens + 1, dtype=torch.bool)
        mask.scatter_(1, ids.where(ids >= 0, tokens), True)
        masks.append(mask[:, :tokens])
    return torch.stack(masks)


def _whole(layers: KVLayers, clock: float) -> ThinnedPassage:
    ms = (time.process_time() - clock) * 1e3
    size = sum(map(layer_bytes, layers))
    return ThinnedPassage(layers, None, size, size, ms)


def _entry_bytes(layers: Sequence[ThinKVLayer], tokens: int) -> tuple[int, int]:
    """Bytes of an entry in bf16 and in int8: vectors, ids, and the unit of each token.

    Padding is not counted: it would not be written. The last layer's values are not kept.
    """
    columns = [_columns(layer.placement) for layer in layers]
    vectors = 2 * sum(columns) - columns[-1]
    size = layers[0].keys.shape[2]
    extras = _ID_BYTES * (sum(columns) + tokens)
    return vectors * size * 2 + extras, vectors * (size + _INT8_VECTOR_EXTRA) + extras


def _columns(placement: Placement | None) -> int:
    return 0 if placement is None else int((~placement.bias.isneginf()).sum())


def _token_spans(prompt: Prompt) -> list[tuple[int, int]]:
    """Token spans of the units, counted from the title line's first token."""
    start = prompt.passage.title_tokens
    return [(start + a, start + b) for a, b in prompt.passage.unit_spans]
