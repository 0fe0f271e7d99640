"""What scores the units of tools' outputs: any method of scoring, by name."""

from __future__ import annotations

from tamis.compressors import registry
from tamis.compressors.method import Scorer, check_scores
from tamis_lab.bench.evidence.panel import parse_method_spec


def build_scorer(spec: str, proxy: str) -> Scorer:
    """A method, with options where wanted: `lexical`, `question_rows`, `infiniretri:heads=16`.

    Args:
        proxy: a zoo name or a folder, for methods that read with one.

    Raises:
        UnknownMethod: no such method. BadInput: one of another kind, or an unknown option.
        ProxyMissing: a model is not on this machine.
    """
    name, options = parse_method_spec(spec)
    registry.check_options(name, options)
    info = registry.method_info(name)
    check_scores(info, name)
    if info.needs_proxy:
        layers = registry.layers_needed(name, proxy, **options)
        options["proxy"] = registry.load_proxy(proxy, layers)
    if info.needs_encoder:
        options["encoder"] = registry.DEFAULT_ENCODER
    scorer: Scorer = registry.build_method(name, **options)
    return scorer
