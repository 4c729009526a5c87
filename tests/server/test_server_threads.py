"""Two hundred answers of a remote model at once: what is open takes sockets, not threads."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from edge_router.config.sections import StrongConfig
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.ledger import Ledger
from edge_router.system.paths import Paths

OPEN = 200
HANDFUL = 16  # threads: those that decide, the strong model's, and one that looks up names


@pytest.fixture
def room_for_sockets() -> Iterator[None]:
    """Each answer takes three here: the client's, the server's and the remote model's."""
    if sys.platform == "win32":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * OPEN + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def request(stream: bool) -> bytes:
    body = json.dumps({"model": "strong", "stream": stream, "messages": [{"role": "user", "content": "x"}]})
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("script", "stream"), [("stall-1", True), ("silent", True), ("stall-1", False)], ids=str
)
def test_two_hundred_open_answers_are_no_threads(
    serve: Callable[..., Any], strong_server: Any, room_for_sockets: None, script: str, stream: bool
) -> None:
    settings = StrongConfig(base_url=strong_server.url(script), model="remote", timeout_s=120.0)
    served = serve(strong=OpenAIEngine(settings))

    def asked() -> int:
        return len(strong_server.requests())

    async def until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)

    async def main() -> None:
        await asyncio.to_thread(asked)  # so that this loop's own threads are counted before
        before = threading.active_count()
        with ExitStack() as open_ones:
            readers = []
            for _ in range(OPEN):
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
                open_ones.callback(writer.close)
                writer.write(request(stream))
                readers.append(reader)
            await until(lambda: asked() == OPEN)
            if script == "stall-1" and stream:
                for reader in readers:
                    await asyncio.wait_for(reader.readuntil(b"strong:"), 60)
            assert threading.active_count() - before <= HANDFUL
        await until(lambda: all(each["gone"] for each in strong_server.requests()))

    asyncio.run(main())


def test_a_server_that_stops_has_written_a_row_for_each_answer_that_it_broke_off(
    serve: Callable[..., Any], strong_server: Any, room_for_sockets: None, paths: Paths
) -> None:
    """Its return ends the process, and with it whatever would write them later."""
    settings = StrongConfig(base_url=strong_server.url("stall-1"), model="remote", timeout_s=120.0)
    served = serve(strong=OpenAIEngine(settings), ledger=True)

    async def main() -> None:
        with ExitStack() as open_ones:
            readers = []
            for _ in range(OPEN):
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
                open_ones.callback(writer.close)
                writer.write(request(stream=True))
                readers.append(reader)
            for reader in readers:
                await asyncio.wait_for(reader.readuntil(b"strong:"), 60)
            await asyncio.to_thread(served.stop)
            assert len(Ledger(paths.ledger).recent(2 * OPEN)) == OPEN

    asyncio.run(main())
