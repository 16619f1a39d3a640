"""One FastAPI route that answers with JSON: what most people run."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def read_root() -> dict[str, str]:
    """Answer with a small object."""
    return {"message": "Hello world!"}
