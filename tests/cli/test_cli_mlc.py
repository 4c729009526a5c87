"""What doctor says of the engine mlc's process in a server that runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edge_router.cli.verbs import mlc_checks
from edge_router.config.settings import Config

pytestmark = pytest.mark.integration


class Server:
    """Answers everything with `health`."""

    def __init__(self) -> None:
        self.health = b""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(outer.health)

            def log_message(self, *_: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_doctor_asks_the_server_how_the_process_fares(server: Server) -> None:
    config = Config().replace(**{"server.port": server.http.server_port})
    for health, state, said in (
        ({"status": "ok"}, None, ""),
        ({"status": "ok", "weak_model": {"state": "running", "restarts": 1}}, "note", "again 1 time;"),
        ({"status": "ok", "weak_model": {"state": "running", "restarts": 2}}, "note", "again 2 times;"),
        ({"status": "degraded", "weak_model": {"state": "pausing", "restarts": 0}}, "bad", "has ended"),
        ({"weak_model": {"restarts": "many"}}, None, ""),
        ({"weak_model": 3}, None, ""),
        ([], None, ""),
    ):
        server.health = json.dumps(health).encode()
        found = list(mlc_checks.served(config))
        assert [finding.state for finding in found] == ([] if state is None else [state]), health
        assert all(said in finding.text and str(server.http.server_port) in finding.text for finding in found)
    server.health = b"<html>"
    assert not list(mlc_checks.served(config))


def test_doctor_says_nothing_where_no_server_runs(server: Server) -> None:
    port = server.http.server_port
    server.http.shutdown()
    server.http.server_close()
    assert not list(mlc_checks.served(Config().replace(**{"server.port": port})))
