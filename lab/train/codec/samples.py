"""What a codec is fitted on: keys, values and questions' query states of labelled records.

record ─ a window of a passage ─► keys without rotation, values ─► some tokens of it
record ─ its question ─► query states ─ as each token sees them ─► metric of keys
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.compressors.reading.windows import split_windows
from tamis.probes.attention.linear_kernels import unpack
from tamis.probes.attention.rope import remove_rotation
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis.text.units.segment import units_of
from tamis_lab.datasets.record_files import RecordFile, ReportProgress
from tamis_lab.datasets.records import load_records, passages_of
from tamis_lab.methods.attention_math import rotate

TOKENS_PER_PASSAGE = 120
PLACES_PER_PASSAGE = 4


@dataclass(frozen=True, slots=True)
class KVSamples:
    """Keys and values of N tokens, and how questions look at keys.

    Attributes:
        keys, values: `[L, Hkv, N, d]` fp16; keys without rotation from the passage's first token
            on, which leaves that of the template's opening.
        key_metric: `[L, Hkv, d, d]` fp32, the mean outer product of the query states of the key's
            group, as a token at a random place sees them: the squared logit of a change of a key.
        value_metric: `[L, Hkv, d, d]` fp32, likewise of the output projection.
    """

    keys: Tensor
    values: Tensor
    key_metric: Tensor
    value_metric: Tensor


def rotation_rates(proxy: Proxy) -> Tensor:
    """Radians a position of each pair of a key's channels, `[d/2]`.

    Raises:
        BadInput: layers rotate keys differently, or in part, or scale them.
    """
    body, size = proxy.body, proxy.body.layers[0].self_attn.head_dim
    rates = getattr(body.rotary_emb, "inv_freq", None)
    if rates is not None and len(rates) == size // 2:
        rates = rates.detach().float()
        unit = torch.eye(size)[None]
        position = torch.ones(size, dtype=torch.long)
        for layer in range(len(body.layers)):
            turned = rotate(body, layer, unit, position)[0]
            angles = torch.cat((rates, rates))
            if not torch.allclose(turned.diagonal(), angles.cos(), atol=1e-5):
                break
        else:
            return Tensor(rates)
    raise BadInput(f"{proxy.card.name} does not rotate all channels of a key alike in all layers")


def read_samples(
    proxy: Proxy,
    files: Sequence[RecordFile],
    language: str,
    seed: int,
    report: ReportProgress,
) -> KVSamples:
    """Reads one window of one passage of each record."""
    draw = random.Random(seed)
    sampler = _Sampler(proxy, seed)
    for file in files:
        every = load_records(file.path)
        count = min(file.limit or len(every), len(every))
        records = [every[n * len(every) // count] for n in range(count)]  # of all articles
        for n, record in enumerate(records):
            passages = [p for p in passages_of(record) if p.text.strip()]
            if passages:
                one = [draw.choice(passages)]
                windows = split_windows(proxy.layout, one, units_of(one, language))
                ask = proxy.layout.question_tokens(record["question"])
                sampler.add(Prompt(draw.choice(windows).tokens, ask))
            report(file.name, n + 1, len(records))
    return sampler.samples()


class _Sampler:
    """Reads passages, and keeps some tokens of each."""

    def __init__(self, proxy: Proxy, seed: int) -> None:
        self.proxy, self.depth = proxy, len(proxy.body.layers)
        self._kv_heads = int(proxy.config.num_key_value_heads)
        unpack(proxy.body)  # the layers of a proxy that was used before are packed
        self._value_metric = self._output_metric()
        self._opening = len(proxy.layout.opening)
        self._generator = torch.Generator().manual_seed(seed)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._metrics: list[Tensor] = []

    @torch.inference_mode()
    def add(self, prompt: Prompt) -> None:
        """Reads one window, and its question apart."""
        want, start, tokens = Want(tuple(range(self.depth))), self._opening, len(prompt.passage.ids)
        (layers,) = self.proxy.compute_kv([prompt], want)
        order = torch.randperm(tokens, generator=self._generator)
        some = order[:TOKENS_PER_PASSAGE]
        positions = torch.arange(tokens)
        keys = [
            self._remove_rotation(n, one.keys[:, start:], positions) for n, one in enumerate(layers)
        ]
        self._keys.append(torch.stack(keys)[:, :, some].half())
        self._values.append(torch.stack([one.values[:, start:][:, some] for one in layers]).half())
        (states,) = question_states(self.proxy, [prompt.question], range(self.depth), tokens)
        for place in order[:PLACES_PER_PASSAGE].tolist():
            self._metrics.append(self._metric_at(states, place))

    def samples(self) -> KVSamples:
        """All that was read."""
        keys, values = torch.cat(self._keys, 2), torch.cat(self._values, 2)
        metric = torch.stack(self._metrics).mean(0)
        return KVSamples(keys, values, metric, self._value_metric)

    def _metric_at(self, states: Tensor, place: int) -> Tensor:
        """The mean outer product of states `[L, H, R, d]`, seen from a place: `[L, Hkv, d, d]`."""
        rows = torch.full((states.shape[2],), place)
        seen = torch.stack([self._remove_rotation(n, one, rows) for n, one in enumerate(states)])
        products = torch.einsum("lhrd,lhre->lhde", seen, seen) / seen.shape[2]
        layers, _, size, _ = products.shape
        return products.view(layers, self._kv_heads, -1, size, size).mean(2)

    def _output_metric(self) -> Tensor:
        """The mean outer product of what each value head is multiplied by: `[L, Hkv, d, d]`."""
        metrics = []
        for layer in self.proxy.body.layers:
            weight = layer.self_attn.o_proj.weight.detach().float()
            heads = weight.reshape(len(weight), self._kv_heads, -1, layer.self_attn.head_dim)
            metrics.append(torch.einsum("okgd,okge->kde", heads, heads) / heads.shape[2])
        return torch.stack(metrics)

    def _remove_rotation(self, layer: int, states: Tensor, positions: Tensor) -> Tensor:
        return remove_rotation(self.proxy.body, layer, states, positions)
