"""An application that answers with its environment variables."""

from __future__ import annotations

import json
import os
from typing import Any


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """Answer every request."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(dict(os.environ)).encode()})
