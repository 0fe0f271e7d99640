"""The Haystack adapter under a short name: `from tamis.haystack import TamisRanker`."""

from tamis.service.integrations.haystack import TamisRanker

__all__ = ["TamisRanker"]
