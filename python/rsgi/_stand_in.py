"""What a browser sees while the code does not start: `--reload` only.

An application of its own, served by a worker that has not imported the user's.
"""

from __future__ import annotations

import html
import os
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: On every response: which error it is about. On a request: to be answered once that is mended.
FIELD = b"x-rsgi-error"

_HINT = "This page is shown because the server runs with --reload. It goes once a file is changed."

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The application did not start</title>
<style nonce="{nonce}">
body {{ margin: 2rem; font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; }}
pre {{ padding: 1rem; overflow-x: auto; font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4;
  border-left: 4px solid #c22; }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #ddd; background: #181818; }}
  pre {{ background: #222; }}
}}
</style>
</head>
<body>
<h1>The application did not start</h1>
<pre>{error}</pre>
<p>{hint}</p>
{script}</body>
</html>
"""

# The request waits at the server until a file changes, and its end is what is waited for here. Only
# then is there something new to see, and only if somebody is there to show it.
_SCRIPT = """\
<script nonce="{nonce}">
(async () => {{
  for (;;) {{
    try {{
      const answer = await fetch(location.href, {{
        cache: "no-store", headers: {{ "x-rsgi-error": "{number}" }}
      }});
      if (answer.headers.get("x-rsgi-error") !== "{number}") return location.reload();
      await answer.text();
    }} catch {{}}
    await new Promise((resolve) => setTimeout(resolve, 100));
  }}
}})();
</script>
"""


class StandIn:
    """An ASGI application that says why another one does not start."""

    def __init__(self, why: str) -> None:
        self._why = why
        self._number = f"{zlib.crc32(why.encode('utf-8', 'replace')):08x}".encode()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request with the error, whatever it is for."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1011})
        else:
            await self._answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def _answer(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        fields = [
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (FIELD, self._number),
        ]
        if (FIELD, self._number) in scope["headers"]:
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            # The head alone, so that the reader knows that nothing has changed.
            await send({"type": "http.response.body", "body": b"\n", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        accepts = b",".join(value for name, value in scope["headers"] if name == b"accept")
        if b"text/html" in accepts.lower():
            nonce = os.urandom(16).hex()
            fields += [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-security-policy", _policy(nonce)),
            ]
            body = self._page(nonce, refreshes=scope["method"] == "GET")
        else:
            fields.append((b"content-type", b"text/plain; charset=utf-8"))
            body = f"The application did not start\n\n{self._why}\n"
        content = body.encode("utf-8", "backslashreplace")
        fields.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": 500, "headers": fields})
        await send({"type": "http.response.body", "body": content})

    def _page(self, nonce: str, *, refreshes: bool) -> str:
        script = _SCRIPT.format(nonce=nonce, number=self._number.decode()) if refreshes else ""
        return _PAGE.format(nonce=nonce, error=html.escape(self._why), hint=_HINT, script=script)


def _policy(nonce: str) -> bytes:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    ).encode()
