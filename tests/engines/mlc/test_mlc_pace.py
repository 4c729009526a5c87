"""From when on silence can only mean that an answer will not go on, by a clock of the tests' own."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from edge_router.engines.mlc.pace import Pace, Stalled


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Process:
    """Answers of which each look comes a second after the last."""

    def __init__(self) -> None:
        self.clock, self.heard = Clock(), 0
        self.pace = Pace(self.clock)

    def answer(
        self, prompt: int, reading_s: int, steps: int = 3, step_s: int = 1, new: int | None = None
    ) -> None:
        with self.pace.turn(prompt, new) as turn:
            for seconds in (reading_s, *[step_s] * steps):
                for _ in range(seconds):
                    self.clock.now += 1
                    turn.look(self.heard)
                self.heard += 1
                turn.came(self.heard)

    def silence(self, prompt: int, begun: bool = True) -> float:
        """How long it may last."""
        with self.pace.turn(prompt) as turn:
            if begun:
                self.heard += 1
                turn.came(self.heard)
            began = self.clock.now
            with pytest.raises(Stalled):
                for _ in range(10**6):
                    self.clock.now += 1
                    turn.look(self.heard)
            return self.clock.now - began


def test_silence_is_measured_by_the_speed_so_far() -> None:
    quick, slow, unknown = Process(), Process(), Process()
    quick.answer(100, reading_s=1)
    slow.answer(100, reading_s=164, step_s=20)
    for process, prompt, begun, least, most in (
        (quick, 100, True, 60, 70),
        (quick, 10_000, False, 500, 700),  # a prompt a hundred times as long
        (slow, 100, True, 200, 220),
        (slow, 100, False, 1_100, 1_300),
        (unknown, 1_000, False, 2_100, 2_200),
    ):
        assert least <= process.silence(prompt, begun) <= most, (prompt, begun)


def test_what_made_a_process_slow_once_is_forgotten() -> None:
    process = Process()
    process.answer(10, reading_s=100)
    slow = process.silence(1_000, begun=False)
    for _ in range(20):
        process.answer(10, reading_s=1)
    assert process.silence(1_000, begun=False) < slow / 10
    process.heard = 0  # another process
    process.answer(10, reading_s=100)
    assert process.silence(1_000, begun=False) == pytest.approx(slow, rel=0.05)


def test_what_was_read_before_makes_nothing_look_fast() -> None:
    """A conversation of many turns, and then a long text."""
    process = Process()
    process.answer(1_000, reading_s=100)
    expected = process.silence(2_000, begun=False)
    for turn in range(40):
        process.answer(1_000 + 100 * turn, reading_s=16, new=100)
    assert process.silence(2_000, begun=False) == pytest.approx(expected, rel=0.2)


def test_who_waits_for_others_is_not_forgotten() -> None:
    process = Process()
    process.answer(100, reading_s=1)
    with ExitStack() as stack:
        reader, other = (stack.enter_context(process.pace.turn(100)) for _ in range(2))
        for _ in range(500):  # the reader reads nothing of what is there for it
            process.clock.now += 1
            process.heard += 1
            other.look(process.heard)
        reader.came(process.heard)


def test_what_waits_for_its_turn_makes_no_prompt_look_fast() -> None:
    """One sequence at a time, as by default: an answer, and a long prompt behind it that nobody reads yet."""
    process = Process()
    process.answer(1_000, reading_s=100)
    expected = process.silence(1_000, begun=False)
    with process.pace.turn(1_000) as answer, process.pace.turn(1_000) as waiting:
        for _ in range(100):
            process.clock.now += 1
            waiting.look(process.heard)
            process.heard += 1
            answer.came(process.heard)
    assert process.silence(1_000, begun=False) >= expected


def test_no_time_passes_while_nobody_waits_or_the_machine_sleeps() -> None:
    process = Process()
    process.answer(100, reading_s=1)
    process.clock.now += 10**6
    process.answer(100, reading_s=1)
    with process.pace.turn(100) as turn:
        turn.look(process.heard)
        process.clock.now += 10**6
        turn.look(process.heard)
