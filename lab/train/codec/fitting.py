"""Fits the code of each layer: principal directions in a metric, and bits where they count.

C of keys and values ─ metric M ─► eigenvectors of M^½ C M^½ ─► directions, by variance
all directions of all layers ─ greedy ─► bits, each where it takes most error away
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tamis.probes.attention.coded_layer import RUN
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.codec import CodecCard, KVCodec, analysis_of, codec_of
from tamis_lab.train.codec.samples import KVSamples

NORMAL_ERROR = (1.0, 0.3634, 0.1188, 0.03744, 0.01154, 0.00349, 0.00104)
"""Squared error of the best uniform codes of a standard normal component, by bits (Max, 1960)."""
VALUE_WEIGHT = 2.0
"""The relative squared error of a head's values that counts as much as a squared logit of 1."""
_RIDGE = 1e-3
_MAX_INT8 = 127
_TINY = 1e-12
_CLIPS = torch.linspace(0.6, 5.5, 30)
"""Half ranges of codes that are tried, in standard deviations."""
MIN_TOKENS = 2000


@dataclass(frozen=True, slots=True)
class _Directions:
    """Of one layer: variances `[C]` descending, synthesis `[C, C]`, roots `[C/d, d, d]` of
    the metric, vectors `[N, C]`."""

    variances: Tensor
    synthesis: Tensor
    roots: Tensor
    vectors: Tensor


def fit_codec(
    samples: KVSamples,
    model: ModelCard,
    opening: int,
    rates: Tensor,
    bits: float,
    trained_on: Sequence[Mapping[str, Any]] = (),
) -> KVCodec:
    """The codec of so many bits a component, for templates with an opening of so many tokens.

    The last layer is coded without its values, which no reading uses.

    Raises:
        BadInput: bits outside (0, 6], too few tokens, or keys of an odd size.
    """
    depth, heads, tokens, size = samples.keys.shape
    check_bits(bits)
    if size % RUN:
        raise BadInput(
            f"keys of {model.name} have {size} channels; only multiples of {RUN} can be coded"
        )
    if tokens < MIN_TOKENS:
        raise BadInput(f"the records give {tokens:,} tokens; give records of {MIN_TOKENS:,}")
    layers = [_directions(samples, n, has_values=n < depth - 1) for n in range(depth)]
    components = sum(len(each.variances) for each in layers)
    widths = allot_bits([each.variances for each in layers], round(bits * components))
    tensors: dict[str, Tensor] = {"rates": rates.float()}
    errors = []
    for n, (layer, own) in enumerate(zip(layers, widths, strict=True)):
        coded, error = _code_layer(layer, own)
        tensors |= {f"{n}.{name}": tensor for name, tensor in coded.items()}
        errors.append(error)
    taken = sum(int(tensors[f"{n}.bits"].sum()) for n in range(depth)) // RUN
    card = CodecCard(
        *(model.name, model.revision, opening, depth, heads, size, bits, tokens),
        trained_on=tuple(trained_on),
        figures={"bytes": taken, "relative_error": [round(error, 4) for error in errors]},
    )
    return codec_of(tensors, card)


def check_bits(bits: float) -> None:
    """Checks the mean number of bits of a component.

    Raises:
        BadInput: it is not above 0, or above 6.
    """
    most = len(NORMAL_ERROR) - 1
    if not 0 < bits <= most:
        raise BadInput(f"bits is {bits:g}; give more than 0 and at most {most}")


def allot_bits(variances: Sequence[Tensor], total: int) -> list[Tensor]:
    """Bits of each direction: each bit goes where it takes most error away.

    Args:
        variances: of each layer's directions, descending. total: bits of all together.

    Returns:
        Of each layer `[C]` int64, equal in runs of `RUN`, descending.
    """
    gains = torch.tensor(NORMAL_ERROR, dtype=torch.float64)
    gains = gains[:-1] - gains[1:]
    runs = [each.double().view(-1, RUN).sum(1) for each in variances]
    marginal = [run[:, None] * gains for run in runs]
    count = max(1, total // RUN)
    least = torch.cat([each.flatten() for each in marginal]).topk(count).values[-1]
    return [(each >= least).sum(1).repeat_interleave(RUN) for each in marginal]


def _directions(samples: KVSamples, layer: int, has_values: bool) -> _Directions:
    roots, inverses = [], []
    for kind in ("key", "value") if has_values else ("key",):
        vectors = getattr(samples, f"{kind}s")[layer].float()
        for head, metric in zip(vectors, getattr(samples, f"{kind}_metric")[layer], strict=True):
            metric = metric + _RIDGE * metric.diagonal().mean() * torch.eye(len(metric))
            if kind == "value":
                spread = (metric * torch.cov(head.T)).sum().clamp_min(_TINY)
                metric = metric * VALUE_WEIGHT / spread
            root, inverse = _roots(metric)
            roots.append(root)
            inverses.append(inverse)
    vectors = stack_channels(samples, layer, has_values)
    root, inverse = _block_diagonal(roots), _block_diagonal(inverses)
    covariance = torch.cov(vectors.T).double()
    variances, axes = torch.linalg.eigh(root @ covariance @ root)
    variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
    return _Directions(variances, (axes.T @ inverse).float(), torch.stack(roots), vectors)


def stack_channels(samples: KVSamples, layer: int, has_values: bool) -> Tensor:
    """Keys of all heads, then values of all heads, of each token: `[N, C]`."""
    parts = [samples.keys[layer], samples.values[layer]] if has_values else [samples.keys[layer]]
    return torch.cat([part.float().transpose(0, 1).flatten(1) for part in parts], 1)


def _code_layer(layer: _Directions, bits: Tensor) -> tuple[dict[str, Tensor], float]:
    """The tensors of a layer's code, and the share of its variance that is lost."""
    kept = max(RUN, int((bits > 0).sum()))
    bits = bits[:kept].clamp_min(1)
    synthesis = layer.synthesis[:kept].view(kept, *layer.roots.shape[:2])  # [K, C/d, d]
    scale = (synthesis.abs().amax(2, keepdim=True) / _MAX_INT8).clamp_min(_TINY)
    rounded = (synthesis / scale).round().to(torch.int8)
    roots, mean = layer.roots.half(), layer.vectors.mean(0)
    # ranges are of what the rounded transform makes of the sample
    along = (layer.vectors - mean) @ analysis_of((rounded * scale).flatten(1), roots)
    lows, steps, errors = _ranges(along, bits)
    lost = float(errors.sum() + layer.variances[kept:].sum()) / float(layer.variances.sum())
    tensors = {
        "synthesis": rounded,
        "scale": scale,
        "roots": roots,
        "mean": mean,
        "lows": lows,
        "steps": steps,
        "bits": bits.to(torch.uint8),
    }
    return tensors, lost


def _ranges(along: Tensor, bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lowest level, the step and the squared error of each direction, with the best range."""
    mean, spread, top = along.mean(0), along.std(0), 2.0**bits - 1
    best = torch.full_like(mean, torch.inf)
    lows, steps = torch.zeros_like(mean), torch.ones_like(mean)
    for clip in _CLIPS:
        low, step = mean - clip * spread, 2 * clip * spread / top
        codes = torch.minimum(((along - low) / step).round_().clamp_(min=0), top)
        error = (codes * step + low - along).square().mean(0)
        better = error < best
        best = torch.where(better, error, best)
        lows, steps = torch.where(better, low, lows), torch.where(better, step, steps)
    return lows, steps, best


def _roots(metric: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of a metric, and its inverse, in fp64."""
    values, axes = torch.linalg.eigh(metric.double())
    values = values.clamp_min(values.amax() * 1e-9)
    return (axes * values.sqrt()) @ axes.T, (axes / values.sqrt()) @ axes.T


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    whole: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return whole
