"""The texts that stand where something was left out, with a hash where it can be had again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.types import Omission

_ELISION = "[…]"


@dataclass(frozen=True, slots=True)
class OmissionMarker:
    """`[… lines 12-47 omitted, 640 tokens; hash=3f…]`; a `Marker` of `compressors.tools`.

    Attributes:
        hash: that the source is kept under; None where it is not.
        tool: the tool of the request that takes such a hash. Without one none is named.
        elision: the caller's text in place of the counts.
    """

    hash: str | None = None
    tool: str | None = None
    elision: str | None = None

    def __call__(self, omission: Omission) -> str:
        """The text for what was left out of a tool's result."""
        return self._complete(default_marker(omission))

    def sentences(self, first: int, last: int, tokens: int) -> str:
        """The text for sentences that were left out of a message."""
        span = f"sentence {first}" if first == last else f"sentences {first}-{last}"
        unit = "token" if tokens == 1 else "tokens"
        return self._complete(f"[… {span} omitted, {tokens} {unit}]")

    def shortest(self) -> OmissionMarker:
        """A marker without counts, for a budget that has no room for them."""
        return self if self.elision is not None else replace(self, elision=_ELISION)

    def _complete(self, counted: str) -> str:
        if self.hash is None:
            return counted if self.elision is None else self.elision
        handle = f"{self.tool} hash={self.hash}" if self.tool else f"hash={self.hash}"
        if self.elision is not None:
            return f"{self.elision} [{handle}]"
        return f"{counted.removesuffix(']')}; {handle}]"
