"""Two hundred streams at once, some slow, some left, some never read: the others do not notice."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

STREAMS = 200  # of 50 tokens a second
SECONDS = 15
# On two idle cores 0.1 s and 2 s hold; here other programs may run, and the readers take a core themselves.
HEALTH_S, END_S = 0.5, 6.0
BODY = json.dumps({"model": "weak", "stream": True, "messages": [{"role": "user", "content": "steady"}]})
REQUEST = (
    "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    f"content-length: {len(BODY)}\r\n\r\n{BODY}"
).encode()
PROBE = """
import http.client, sys, time
port, end, took = int(sys.argv[1]), time.monotonic() + float(sys.argv[2]), []
while time.monotonic() < end:
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/health")
    assert connection.getresponse().read()
    connection.close()
    took.append(time.monotonic() - begin)
    time.sleep(0.02)
print(sorted(took)[int(len(took) * 0.99)])
"""


async def client(port: int, kind: str) -> None:
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, REQUEST)
            if kind == "never":
                await asyncio.sleep(3600)
            elif kind == "leaver":
                await loop.sock_recv(one, 100)
                await asyncio.sleep(1)
            while kind in ("slow", "reader") and await loop.sock_recv(one, 500 if kind == "slow" else 65536):
                await asyncio.sleep(0.5 if kind == "slow" else 0)


def test_two_hundred_streams(program: Callable[..., Any]) -> None:
    one = program()
    port, process = int(one.url.rpartition(":")[2]), psutil.Process(one.process.pid)
    kinds = ["reader"] * 7 + ["slow", "leaver", "never"]

    async def main() -> tuple[float, int, int]:
        tasks = [asyncio.create_task(client(port, kinds[n % len(kinds)])) for n in range(STREAMS)]
        await asyncio.sleep(SECONDS / 3)
        before = process.memory_info().rss
        probe = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROBE, str(port), str(SECONDS), stdout=subprocess.PIPE
        )
        told, _ = await probe.communicate()
        after = process.memory_info().rss
        begin = time.monotonic()
        one.process.send_signal(signal.SIGTERM if sys.platform != "win32" else signal.CTRL_BREAK_EVENT)
        await asyncio.to_thread(one.process.wait, 60)
        ended = time.monotonic() - begin
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert float(told) < HEALTH_S
        assert ended < END_S
        return float(told), before, after

    _, before, after = asyncio.run(main())
    assert after - before < 32 << 20
    assert one.process.returncode == 0


def test_what_is_left_ends(program: Callable[..., Any]) -> None:
    """Hundreds of clients that ask and leave at once leave no thread behind."""
    one = program()
    port, process = int(one.url.rpartition(":")[2]), psutil.Process(one.process.pid)
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", port)) as left:
            left.sendall(REQUEST)
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        connection.close()
        if process.num_threads() < 30:
            return
        time.sleep(0.05)
    raise AssertionError(f"{process.num_threads()} threads")
