"""Django Channels."""

from __future__ import annotations

import json

from channels.exceptions import DenyConnection  # type: ignore[import-untyped]
from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped]
from channels.routing import ProtocolTypeRouter, URLRouter  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

settings.configure(SECRET_KEY="for tests only", LOGGING_CONFIG=None)


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Echo JSON and bytes until the client leaves."""

    async def connect(self) -> None:
        """Accept."""
        await self.accept(subprotocol="chat")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Echo."""
        if text_data is not None:
            await self.send(text_data=json.dumps(json.loads(text_data)))
        else:
            await self.send(bytes_data=bytes_data)


class Deny(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Refuse."""

    async def connect(self) -> None:
        """Refuse."""
        raise DenyConnection


class End(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Close with a code of its own."""

    async def connect(self) -> None:
        """Accept and close."""
        await self.accept()
        await self.close(4000, "done")


app = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("echo", Echo.as_asgi()),
                path("deny", Deny.as_asgi()),
                path("end", End.as_asgi()),
            ]
        )
    }
)
