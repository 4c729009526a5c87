"""What serving costs: a model that answers at once, asked over HTTP and, in turns, in this process."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from urllib.parse import urlsplit

from edge_router.bench.latency import Latency, timed
from edge_router.bench.server_side import TOKENS, instant
from edge_router.errors import ServerError
from edge_router.records import dataclass
from edge_router.system import child_process
from edge_router.types import Progress, SilentProgress

CLIENTS, ROUNDS = 4, 200
_WARM_UP = 10
_BODY = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Name the planets."}]}
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class ServerBench:
    """Of answers of `TOKENS` tokens, each a chunk of its own; the default router rates every request."""

    inside: Latency  # in this process, until the answer is whole
    first: Latency  # over HTTP, until its first chunk
    whole: Latency
    clients: int
    requests_per_s: float  # of so many clients at once

    def to_dict(self) -> dict[str, object]:
        return {
            "tokens": TOKENS,
            "in_process_p50_ms": round(self.inside.p50, 3),
            "first_chunk_p50_ms": round(self.first.p50, 3),
            "p50_ms": round(self.whole.p50, 3),
            "p95_ms": round(self.whole.p95, 3),
            "p99_ms": round(self.whole.p99, 3),
            "n": self.whole.n,
            "clients": self.clients,
            "requests_per_s": round(self.requests_per_s, 1),
        }


def bench_server(
    *, clients: int = CLIENTS, rounds: int = ROUNDS, progress: Progress | None = None
) -> ServerBench:
    """The server runs in a process of its own, as `edge-router serve` does. Raises `ServerError`."""
    inside: list[float] = []
    first: list[float] = []
    whole: list[float] = []
    with (
        TemporaryDirectory() as home,
        _server(Path(home)) as address,
        instant(Path(home) / "inside") as controller,
        (progress or SilentProgress()).step("ask", total=2 * rounds, unit="requests") as step,
    ):

        def directly() -> None:
            controller.chat.completions.create(messages="Name the planets.")

        with closing(_Client(address)) as client:
            for number in range(_WARM_UP + rounds):
                seconds, (begun, ended) = timed(directly), client.ask()
                if number >= _WARM_UP:
                    inside.append(seconds)
                    first.append(begun)
                    whole.append(ended)
                    step.advance()
        speed = _together(address, clients, rounds)
        step.advance(rounds)
    return ServerBench(Latency.of(inside), Latency.of(first), Latency.of(whole), clients, speed)


class _Client:
    """One connection that is kept."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address)

    def ask(self) -> tuple[float, float]:
        """Seconds until the first piece of an answer, and until its end."""
        start = perf_counter()
        body = json.dumps(_BODY)
        self._connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        reply.readline()
        begun = perf_counter() - start
        rest = reply.read()
        ended = perf_counter() - start
        if reply.status != http.HTTPStatus.OK or not rest.rstrip().endswith(b"[DONE]"):
            raise ServerError(f"the server answered {reply.status} and {rest[-200:]!r}")
        return begun, ended

    def close(self) -> None:
        self._connection.close()


def _together(address: str, clients: int, requests: int) -> float:
    """Answers per second."""
    left = iter(range(requests))
    lock = threading.Lock()

    def work() -> None:
        with closing(_Client(address)) as client:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                client.ask()

    with ThreadPoolExecutor(clients) as pool:
        seconds = timed(lambda: [done.result() for done in [pool.submit(work) for _ in range(clients)]])
    return requests / seconds


@contextmanager
def _server(home: Path) -> Iterator[str]:
    """Host and port. The process ends with its standard input."""
    child = child_process.start(["-m", "edge_router.bench.server_side", str(home / "served")])
    assert child.stdin is not None and child.stdout is not None
    try:
        url = child.stdout.readline().decode().strip()
        if not url:
            raise ServerError(f"the server ended with {child.wait(_STOP_S)} before it listened")
        yield urlsplit(url).netloc
    finally:
        child_process.end(child, _STOP_S)
        child.stdout.close()
