"""A line for each answer of a server: in columns, without its text, and never in an answer's way."""

from __future__ import annotations

import threading
import time

from table import each

from edge_router.api.client import Controller
from edge_router.chat.events import Usage
from edge_router.cli.request_log import RequestLog, line_of
from edge_router.engines.scripted import ScriptedEngine
from edge_router.ledger import Record
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.types import Decision, Reason, Timings

NOON = time.mktime((2026, 11, 30, 12, 0, 0, 0, 0, -1))
USAGE, TIMINGS = Usage(37, 7), Timings(total_ms=662.2)
WEAK = Decision("weak", Reason.SCORE, 0.207, 0.297)
STRONG = Decision("strong", Reason.STRONG_UNAVAILABLE, caller="anna")
LINES = (
    (Record(WEAK, "SmolLM2-135M-Instruct", USAGE, TIMINGS, time=NOON),
     "12:00:00 weak   SmolLM2-135M-Instr.. score              0.207      37+7    662"),
    (Record(STRONG, "big\nsmall", None, time=NOON, error="StrongTimeout", cause="EngineFailed"),
     "12:00:00 strong big small            strong_unavailable     -         -      - anna StrongTimeout "
     "after EngineFailed"),
    (Record(WEAK, "", Usage(123_456, 1234), Timings(total_ms=123_456), prompt="a secret", time=NOON),
     "12:00:00 weak   -                    score              0.207 123456+1234 123456"),
)  # fmt: skip


@each("record, line", LINES)
def test_an_answer_in_a_line(record: Record, line: str) -> None:
    assert line_of(record) == line
    assert line_of(record, dated=True) == f"2026-11-30 {line}"


def test_each_answer_is_told_below_one_header_and_fits_a_terminal() -> None:
    said = list[str]()
    log = RequestLog(said.append, dated=False)
    router = ScriptedRouter(lambda text: 0.9 if "hard" in text else 0.1, name="mf")
    with Controller(
        weak=ScriptedEngine(model_id="w"), strong=ScriptedEngine(model_id="s"), router=router
    ) as client:
        client.recorder.watch(log.tell)
        for question in ("easy to guess", "hard to guess"):
            client.chat.completions.create(messages=question)
    log.close()
    assert [line.split()[:3] for line in said] == [
        ["time", "model", "reason"],
        [said[1][:8], "weak", "w"],
        [said[2][:8], "strong", "s"],
    ]
    assert "guess" not in "".join(said) and max(map(len, said)) <= 80


def test_nobody_who_reads_it_late_delays_an_answer() -> None:
    stuck, said = threading.Event(), list[str]()

    def say(line: str) -> None:
        stuck.wait()
        said.append(line)

    log = RequestLog(say, dated=False)
    for _ in range(3000):
        log.tell(LINES[0][0])
    log.close()
    assert not said
    stuck.set()
