"""The real server in a process of its own, asked by real clients."""

from __future__ import annotations

from collections.abc import Sequence
from subprocess import Popen

import pytest

from edge_router.bench.server import bench_server
from edge_router.bench.server_side import TOKENS, instant
from edge_router.errors import ServerError
from edge_router.system import child_process
from edge_router.system.paths import Paths


def test_it_asks_here_and_over_http_in_turns() -> None:
    found = bench_server(clients=2, rounds=5)
    assert (found.inside.n, found.first.n, found.whole.n, found.clients) == (5, 5, 5, 2)
    assert 0 < found.first.p50 <= found.whole.p50 and found.requests_per_s > 0
    assert {"p50_ms", "p95_ms", "p99_ms", "requests_per_s", "in_process_p50_ms"} <= set(found.to_dict())


def test_its_model_answers_at_once_and_the_users_ledger_knows_nothing_of_it(paths: Paths) -> None:
    with instant(paths.ledger.parent / "elsewhere") as controller:
        reply = controller.chat.completions.create(messages="Name the planets.")
    assert reply.usage is not None and reply.usage.completion_tokens == TOKENS
    assert reply.decision.score is not None and not paths.ledger.exists()


def test_a_server_that_does_not_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real = child_process.start

    def broken(code: Sequence[str]) -> Popen[bytes]:
        return real(["-c", "raise SystemExit(3)"])

    monkeypatch.setattr(child_process, "start", broken)
    with pytest.raises(ServerError, match="ended with 3 before it listened"):
        bench_server(rounds=1)
