"""The Haystack adapters under a short name: `from tamis.haystack import TamisRanker`."""

from tamis.service.integrations.haystack import TamisCompactor, TamisRanker

__all__ = ["TamisCompactor", "TamisRanker"]
