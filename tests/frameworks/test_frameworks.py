"""What users rely on, through each framework. The routes are in `tests/apps/frameworks`."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve, Shared
from tests.support.flavour import varies_on_uvicorn
from tests.support.server import Server
from tests.support.waiting import eventually

FRAMEWORKS = ["fastapi", "starlette", "quart", "django", "litestar"]
WITH_LIFESPAN = [name for name in FRAMEWORKS if name != "django"]
MEBIBYTE = 1 << 20


def app_of(framework: str) -> str:
    return f"tests.apps.frameworks.{framework}_app:app"


@pytest.fixture(params=FRAMEWORKS)
def server(request: pytest.FixtureRequest, shared: Shared) -> Server:
    return shared(app_of(request.param), allow_tracebacks=True)


@pytest.fixture(params=WITH_LIFESPAN)
def server_with_lifespan(request: pytest.FixtureRequest, shared: Shared) -> Server:
    return shared(app_of(request.param), allow_tracebacks=True)


def post(server: Server, path: str, **options: object) -> httpx.Response:
    with server.client() as client:
        return client.post(path, **options)  # type: ignore[arg-type]


def test_json_is_echoed(server: Server) -> None:
    value = {"text": "žluťoučký", "list": [1, 2.5, None]}
    assert post(server, "/json", json=value).json() == {"got": value}


def test_a_form_is_echoed(server: Server) -> None:
    form = {"name": "a b&c", "colour": "žlutá"}
    assert post(server, "/form", data=form).json() == form


def test_a_file_is_uploaded(server: Server) -> None:
    response = post(server, "/upload", files={"file": ("x.bin", bytes(3 * MEBIBYTE))})
    assert response.json() == {"name": "x.bin", "size": 3 * MEBIBYTE}


def test_a_file_of_200_mebibytes_is_uploaded(shared: Shared, tmp_path: Path) -> None:
    server = shared(app_of("fastapi"), allow_tracebacks=True)
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(200 * MEBIBYTE)
    with big.open("rb") as file:
        response = post(server, "/upload", files={"file": ("big.bin", file)})
    assert response.json() == {"name": "big.bin", "size": 200 * MEBIBYTE}


def test_a_stream_arrives_whole(server: Server) -> None:
    assert server.get("/stream").text.splitlines() == [f"tick {n}" for n in range(5)]


def test_an_event_stream_starts_at_once(server: Server, key: str) -> None:
    with server.client() as client, client.stream("GET", f"/events?key={key}") as response:
        assert next(response.iter_text()).startswith("data: tick")


def test_an_event_stream_ends_when_the_client_leaves(server: Server, key: str) -> None:
    with server.client() as client, client.stream("GET", f"/events?key={key}") as response:
        next(response.iter_text())
    assert eventually(lambda: server.get(f"/journal?key={key}").json() == ["stream ended"])


def test_leaving_an_event_stream_is_not_logged_as_an_error(server: Server, key: str) -> None:
    since = server.mark()
    with server.client() as client, client.stream("GET", f"/events?key={key}") as response:
        next(response.iter_text())
    assert eventually(lambda: server.get(f"/journal?key={key}").json() == ["stream ended"])
    assert "Exception in ASGI application" not in server.stderr()[since:]


def test_a_background_task_runs_after_the_response(server_with_lifespan: Server, key: str) -> None:
    server = server_with_lifespan
    assert server.get(f"/background?key={key}").json() == {"accepted": True}
    assert eventually(lambda: server.get(f"/journal?key={key}").json() == ["background done"])


def test_an_exception_is_500(server: Server) -> None:
    assert server.get("/error").status_code == 500


@varies_on_uvicorn("closes the connection a moment after the response")
def test_the_connection_goes_on_after_an_exception(server: Server) -> None:
    with server.client() as client:
        assert [client.get("/error").status_code, client.get("/stream").status_code] == [500, 200]


def test_a_synchronous_route_runs_in_a_thread(server: Server) -> None:
    assert server.get("/sync").json() == {"main": False}


def test_context_variables_do_not_leak_between_requests(server: Server) -> None:
    """Neither between those at the same time nor between those on one connection."""
    wrong: list[object] = []

    def ask(name: str) -> None:
        with server.client() as client:
            for _ in range(5):
                facts = client.get(f"/context?name={name}").json()
                if facts != {"before": "nobody", "after": name}:
                    wrong.append(facts)

    threads = [threading.Thread(target=ask, args=(f"user-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("fact", "value"),
    [("is_task", True), ("among_all", True), ("sniffio", "asyncio"), ("anyio", True)],
)
def test_the_running_task_is_a_real_one(server: Server, fact: str, value: object) -> None:
    assert server.get("/task").json()[fact] == value


def test_an_anyio_task_group_works(server: Server) -> None:
    assert server.get("/group").json() == {"results": [1, 2, 3], "cancelled": True}


def test_the_start_of_the_lifespan_ran_once(server_with_lifespan: Server) -> None:
    assert server_with_lifespan.get("/lifespan").json() == ["started"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_starts_and_stops_without_a_complaint(serve: Serve, framework: str) -> None:
    server = serve(app_of(framework))
    assert server.get("/task").status_code == 200
    server.stop()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_serves_with_two_workers(serve: Serve, framework: str) -> None:
    server = serve(app_of(framework), workers=2)
    assert [server.get("/task").status_code for _ in range(10)] == [200] * 10


def test_fifty_requests_at_once_are_answered(server: Server) -> None:
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(post(server, "/json", json={"n": 1}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 50
