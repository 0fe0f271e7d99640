"""The clients of a tamis server under a short name: `from tamis.client import Client`."""

from tamis.service.integrations.client import AsyncClient, Client, ServiceError

__all__ = ["AsyncClient", "Client", "ServiceError"]
