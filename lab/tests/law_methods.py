"""A plugin: the methods of the lab in place of those of tamis, for one run of `tests/laws`.

pytest -p lab.tests.law_methods tests/laws
"""

from __future__ import annotations

import pytest

from lab.tests.methods.decision_kit import WordDecisions
from tamis.compressors.registry import LAB_METHODS
from tamis_lab.methods.attnrank import AttnRank
from tamis_lab.methods.corehead import CoReHead
from tamis_lab.methods.position_bias import PositionProfile
from tamis_lab.methods.qrhead import QRHead
from tamis_lab.methods.raw_attention import RawAttention
from tamis_lab.methods.systemone import SystemOne
from tests.laws.methods import (
    CHUNK_TOKENS,
    HEADS,
    BuiltMethod,
    MethodVariant,
    head_profile,
    over_scripted_reader,
    scripted_reader,
    use_methods,
)

VARIANTS = {
    "raw_attention": MethodVariant(
        "raw_attention",
        over_scripted_reader(lambda r: RawAttention(r, window_tokens=CHUNK_TOKENS)),
        follows_script=True,
    ),
    "systemone": MethodVariant("systemone", lambda: BuiltMethod(SystemOne(reader=WordDecisions()))),
}


def qrhead() -> QRHead:
    reader = scripted_reader()
    return QRHead(reader, profile=head_profile(reader, "qr"), heads=HEADS)


def corehead() -> CoReHead:
    reader = scripted_reader()
    return CoReHead(reader, profile=head_profile(reader, "contrast"), heads=HEADS)


def attnrank() -> AttnRank:
    shares = (0.4, 0.1, 0.2, 0.3)
    return AttnRank(PositionProfile("scripted", "scripted", "chatml", (shares,), 0, True, 1))


def pytest_configure(config: pytest.Config) -> None:
    """Before any law is collected."""
    use_methods(
        LAB_METHODS, VARIANTS, {"qrhead": qrhead, "corehead": corehead}, {"attnrank": attnrank}
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out laws of kinds that the lab has no method of, and of two methods of tamis."""
    out = [item for item in items if _is_empty(item) or item.path.name == "test_exact.py"]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)


def _is_empty(item: pytest.Item) -> bool:
    return any(
        str(mark.kwargs.get("reason", "")).startswith("got empty parameter set")
        for mark in item.iter_markers("skip")
    )
