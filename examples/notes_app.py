"""FastAPI with PostgreSQL and Redis, as `compose.yaml` starts it.

`rsgi --workers 2 --on-start examples.notes_app:prepare examples.notes_app:app`
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import asyncpg
from fastapi import FastAPI, Request
from redis.asyncio import Redis

DATABASE = os.environ.get("DATABASE_URL", "postgresql://notes:notes@localhost/notes")
CACHE = os.environ.get("REDIS_URL", "redis://localhost")
#: One answer of `GET /notes` may be this old.
FRESH_SECONDS = 10


class State(TypedDict):
    """What every request of a worker shares: `request.state`."""

    database: asyncpg.Pool
    cache: Redis


def prepare() -> None:
    """Make the table: once, before the first worker (`--on-start`), and not once per worker."""

    async def create() -> None:
        connection = await asyncpg.connect(DATABASE)
        try:
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL)"
            )
        finally:
            await connection.close()

    asyncio.run(create())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Open the connections of this worker, and close them after its last request."""
    async with asyncpg.create_pool(DATABASE, min_size=1, max_size=5) as database:
        cache = Redis.from_url(CACHE, decode_responses=True)
        try:
            yield {"database": database, "cache": cache}
        finally:
            await cache.aclose()


app = FastAPI(title="Notes", lifespan=lifespan)


@app.post("/notes", status_code=201)
async def add(request: Request) -> dict[str, int | str]:
    """Keep the content of the request as a note."""
    text = (await request.body()).decode()
    number: int = await request.state.database.fetchval(
        "INSERT INTO notes (text) VALUES ($1) RETURNING id", text
    )
    await request.state.cache.delete("notes")
    return {"id": number, "text": text}


@app.get("/notes")
async def notes(request: Request) -> list[dict[str, int | str]]:
    """Return all notes, from the cache if they are there."""
    known = await request.state.cache.get("notes")
    if known is not None:
        found: list[dict[str, int | str]] = json.loads(known)
        return found
    rows = await request.state.database.fetch("SELECT id, text FROM notes ORDER BY id")
    fresh = [dict(row) for row in rows]
    await request.state.cache.set("notes", json.dumps(fresh), ex=FRESH_SECONDS)
    return fresh


@app.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Ask both of what this application stands on."""
    await request.state.database.execute("SELECT 1")
    await request.state.cache.ping()
    return {"status": "ok"}
