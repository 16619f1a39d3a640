"""Files through each framework, whole and in ranges, over HTTP/1.1 and HTTP/2.

What a range is and when it is refused is the framework's to know (RFC 9110, section 14); that
status, length and content leave as it says is the server's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Shared
from tests.frameworks.test_frameworks import app_of
from tests.support.flavour import rsgi_only

pytestmark = rsgi_only("has no HTTP/2")

FRAMEWORKS = ["starlette", "quart", "litestar", "django"]
WITH_RANGES = ["starlette", "quart"]
SIZE = 3_000_017
CONTENT = os.urandom(SIZE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "content.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    is_http2 = request.param == "HTTP/2"
    options = {"http1": not is_http2, "http2": is_http2, "trust_env": False, "timeout": 30}
    with httpx.Client(**options) as client:
        yield client


def url(shared: Shared, framework: str, path: Path) -> str:
    server = shared(app_of(framework), allow_tracebacks=True)
    return f"http://127.0.0.1:{server.port}/file?path={path}"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_file_arrives_whole(
    shared: Shared, client: httpx.Client, path: Path, framework: str
) -> None:
    target = url(shared, framework, path)
    # Twice: the connection goes on.
    for _ in range(2):
        response = client.get(target)
        assert (response.status_code, response.headers["content-length"]) == (200, str(SIZE))
        assert response.content == CONTENT


@pytest.mark.parametrize(
    ("framework", "range_", "first", "last"),
    [
        ("starlette", "bytes=0-0", 0, 0),
        ("starlette", "bytes=100-199", 100, 199),
        ("starlette", "bytes=1000-", 1000, SIZE - 1),
        ("starlette", "bytes=-70000", SIZE - 70000, SIZE - 1),
        ("starlette", f"bytes=5-{SIZE + 5}", 5, SIZE - 1),
        # Quart raises for the last bytes of a file.
        ("quart", "bytes=0-0", 0, 0),
        ("quart", "bytes=1000-", 1000, SIZE - 1),
    ],
)
def test_a_range_arrives(
    shared: Shared,
    client: httpx.Client,
    path: Path,
    framework: str,
    range_: str,
    first: int,
    last: int,
) -> None:
    response = client.get(url(shared, framework, path), headers={"range": range_})
    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert response.headers["content-length"] == str(last - first + 1)
    assert response.content == CONTENT[first : last + 1]


@pytest.mark.parametrize("framework", WITH_RANGES)
def test_a_range_behind_the_end_is_refused(
    shared: Shared, client: httpx.Client, path: Path, framework: str
) -> None:
    target = url(shared, framework, path)
    response = client.get(target, headers={"range": f"bytes={SIZE}-"})
    assert response.status_code == 416
    # Quart does not tell how long it is.
    assert framework == "quart" or response.headers["content-range"].endswith(f"*/{SIZE}")
    assert len(response.content) == int(response.headers["content-length"])
    assert client.get(target).content == CONTENT


@pytest.mark.parametrize("framework", WITH_RANGES)
def test_a_range_of_what_has_changed_is_the_whole(
    shared: Shared, client: httpx.Client, path: Path, framework: str
) -> None:
    target = url(shared, framework, path)
    tag = client.head(target).headers["etag"]
    for known, status, length in [(tag, 206, 10), ('"another"', 200, SIZE)]:
        response = client.get(target, headers={"range": "bytes=0-9", "if-range": known})
        assert (response.status_code, len(response.content)) == (status, length)
        assert response.headers["content-length"] == str(length)
        assert response.content == CONTENT[:length]


def test_several_ranges_arrive_in_parts(shared: Shared, client: httpx.Client, path: Path) -> None:
    target = url(shared, "starlette", path)
    response = client.get(target, headers={"range": "bytes=0-9,1000000-1099999"})
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges")
    assert len(response.content) == int(response.headers["content-length"])
    assert CONTENT[:10] in response.content
    assert CONTENT[1_000_000:1_100_000] in response.content


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_file_has_its_length_where_only_the_head_is_asked_for(
    shared: Shared, client: httpx.Client, path: Path, framework: str
) -> None:
    response = client.head(url(shared, framework, path))
    if response.status_code == 405:
        pytest.skip("the framework answers to GET alone")
    assert (response.headers["content-length"], response.content) == (str(SIZE), b"")
