"""The LlamaIndex adapter under a short name: `from tamis.llamaindex import TamisPostprocessor`."""

from tamis.service.integrations.llamaindex import TamisPostprocessor

__all__ = ["TamisPostprocessor"]
