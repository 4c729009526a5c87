"""`ps`: what a server holds, asked of one that answers as ours does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytestmark = pytest.mark.integration

HELD = {"models": [{"name": "small", "size": 3 << 30, "size_vram": 3 << 30, "context_length": 4096}]}


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        allowed = self.path == "/health" or self.headers.get("Authorization") == "Bearer sesame"
        told = {"status": "ok"} if self.path == "/health" else HELD if allowed else {"error": "no key"}
        body = json.dumps(told).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_a_server_holds(cli, port, monkeypatch):
    asked = ("ps", "-o", f"server.port={port}")
    refused = cli(*asked)
    assert refused.code == 1 and "EDGE_ROUTER_API_KEY" in refused.err
    monkeypatch.setenv("EDGE_ROUTER_API_KEY", "sesame")
    done = cli(*asked)
    assert done.code == 0 and [line.split() for line in done.out.splitlines()] == [
        ["model", "memory", "on", "context"],
        ["small", "3.0", "GiB", "GPU", "4096"],
    ]
    assert json.loads(cli(*asked, "--json").out)["models"] == HELD["models"]


def test_no_server_is_told_with_how_to_start_one(cli, port):
    done = cli("ps", "-o", "server.port=1")
    assert done.code == 1 and done.out == "" and done.err.strip().endswith("edge-router serve")
    assert json.loads(cli("ps", "-o", "server.port=1", "--json").out) == {"server": None, "models": []}
