"""Prints the part of the service's OpenAPI document that this client speaks, for its types.

`make typescript-types` writes it to a file and runs the generator over it.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from tamis.probes import plugins

PATHS = (
    *("/v1/compress", "/v1/explain", "/v1/expand", "/v2/rerank", "/score", "/v1/search"),
    "/v1/tools/rank",
    *("/v1/retrieve/{hash}", "/v1/models", "/info", "/readyz"),
)
_REF = re.compile(r'"#/components/schemas/([^"]+)"')
_OTHER_DIALECTS = {"InputRequest", "InputAnswer"}
"""Shapes of a path that clients of other services send and read."""


def client_document() -> dict[str, Any]:
    """The schemas of the requests and the successful answers of these paths, and no paths."""
    # what packages of this machine add to tamis is no part of a client: to be said before import
    plugins.entry_points = lambda group: ()
    from tamis.service.http.app import create_app
    from tamis.service.http.runtime.settings import Settings

    document = create_app(Settings()).openapi()
    schemas = document["components"]["schemas"]
    bodies = [
        _bodies(operation) for path in PATHS for operation in document["paths"][path].values()
    ]
    names, found = _names(bodies) - _OTHER_DIALECTS, set[str]()
    while names:
        found |= names
        names = _names([schemas[name] for name in names]) - found
    return document | {
        "paths": {},
        "components": {"schemas": {name: schemas[name] for name in sorted(found)}},
    }


def _bodies(operation: dict[str, Any]) -> list[Any]:
    return [operation.get("requestBody"), operation["responses"]["200"]]


def _names(node: Any) -> set[str]:
    return set(_REF.findall(json.dumps(node)))


if __name__ == "__main__":
    json.dump(client_document(), sys.stdout, indent=1)
