"""A Flask application."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from flask import Flask, Response, jsonify, request

app = Flask(__name__)

#: What the endless stream has said of its end, and what an upload has met.
journal: list[str] = []
#: Calls of `/wait` that wait for each other.
barrier = threading.Barrier(4)


@app.get("/")
def facts() -> Response:
    """Tell what a request looks like from here."""
    return jsonify(
        method=request.method,
        path=request.path,
        root=request.root_path,
        script=request.environ["SCRIPT_NAME"],
        query=request.args.to_dict(),
        scheme=request.scheme,
        client=request.remote_addr,
        agent=request.headers.get("User-Agent"),
        cookies=request.cookies.to_dict(),
        server=request.environ["SERVER_SOFTWARE"],
        thread=threading.current_thread() is not threading.main_thread(),
    )


@app.post("/echo")
def echo() -> Response:
    """Return what was sent."""
    return Response(request.get_data(), content_type=request.content_type)


@app.post("/length")
def length() -> Response:
    """Read the content piece by piece and tell its length."""
    total = 0
    try:
        while piece := request.stream.read(10_000):
            total += len(piece)
    except OSError as error:
        journal.append(type(error).__name__)
        return Response(status=400)
    return jsonify(length=total)


@app.get("/stream")
def stream() -> Response:
    """Send a thousand lines."""
    return Response((f"line {number}\n" for number in range(1000)), mimetype="text/plain")


@app.get("/endless")
def endless() -> Response:
    """Send lines until somebody stops it."""

    def lines() -> Iterator[str]:
        try:
            while True:
                yield "line\n" * 1000
        finally:
            journal.append("closed")

    return Response(lines(), mimetype="text/plain")


@app.get("/wait")
def wait() -> Response:
    """Wait until four requests are here at once."""
    barrier.wait(timeout=30)
    return Response("together")


@app.get("/error")
def error() -> Response:
    """Raise."""
    raise LookupError("it is broken")


@app.get("/log")
def log() -> Response:
    """Write to `wsgi.errors`."""
    request.environ["wsgi.errors"].write("a line for the error log\n")
    return Response("logged")


@app.get("/journal")
def read_journal() -> Response:
    """Return the journal."""
    return jsonify(journal)
