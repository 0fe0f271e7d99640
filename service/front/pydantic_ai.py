"""The pydantic-ai adapter under a short name: `from tamis.pydantic_ai import ...`."""

from tamis.service.integrations.pydantic_ai import TamisHistoryProcessor

__all__ = ["TamisHistoryProcessor"]
