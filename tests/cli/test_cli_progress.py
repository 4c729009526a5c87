"""Progress on stderr: bars, lines, silence."""

from __future__ import annotations

import io
import sys

import pytest

from edge_router.cli.terminal import output, progress
from edge_router.cli.terminal.progress import BarProgress, LineProgress, progress_for
from edge_router.types import SilentProgress


class Screen(io.StringIO):
    """A terminal that remembers."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_screen(monkeypatch):
    """A function, for pytest puts its own stderr in place between a fixture and its test."""

    def begin() -> Screen:
        fake = Screen()
        monkeypatch.setattr(sys, "stderr", fake)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        return fake

    return begin


@pytest.fixture
def clock(monkeypatch):
    """`clock.now += 5` passes five seconds."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_which_one(on_screen, monkeypatch):
    on_screen()
    assert isinstance(progress_for(quiet=False), BarProgress)
    assert isinstance(progress_for(quiet=True), SilentProgress)
    assert isinstance(progress_for(quiet=False, json=True), BarProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress_for(quiet=False), LineProgress)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress_for(quiet=False), LineProgress)
    assert isinstance(progress_for(quiet=False, json=True), SilentProgress)


def test_lines_come_now_and_then_and_at_the_end(capsys, clock):
    with LineProgress().step("fetch", total=93_000_000, unit="bytes") as step:
        step.advance(1_000_000)
        clock.now += 3
        step.advance(9_000_000)
        clock.now += 5
        step.advance(10_000_000)
        clock.now += 20
        step.advance(73_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "fetch: 9.5 MiB of 88.7 MiB",
        "fetch: 88.7 MiB of 88.7 MiB",
        "fetch: 88.7 MiB in 28 s",
    ]


def test_a_quick_step_leaves_no_trace(capsys, clock):
    with LineProgress().step("load") as step:
        step.advance()
    assert capsys.readouterr().err == ""


def test_a_step_that_fails_says_nothing_of_its_end(capsys, clock):
    with pytest.raises(ValueError), LineProgress().step("compile"):
        clock.now += 5
        raise ValueError
    assert capsys.readouterr().err == ""


def test_notes_are_lines(capsys):
    LineProgress().note("rebuilt, for\nthe library\r is \x07damaged")
    assert capsys.readouterr().err == "rebuilt, for the library is damaged\n"


def test_a_bar_vanishes_and_a_long_step_leaves_a_line(on_screen, clock):
    screen = on_screen()
    shown = BarProgress()
    with shown.step("quantize", total=272, unit="tensors") as step:
        for _ in range(272):
            step.advance()
        clock.now += 4
    text = screen.getvalue()
    assert "quantize" in text and "quantize: 272 tensors in 4.0 s" in text


def test_bars_share_one_display_and_notes_go_above_it(on_screen, clock):
    screen = on_screen()
    shown = BarProgress()
    with shown.step("compile") as outer:
        outer.advance()
        with shown.step("link", total=2, unit="files") as inner:
            inner.advance(2)
            shown.note("a note [not markup]")
    shown.note("after it")
    text = screen.getvalue()
    assert "a note [not markup]" in text and "after it" in text
    assert shown._bars is None


def test_a_bar_ends_with_an_error_too(on_screen, clock):
    on_screen()
    shown = BarProgress()
    with pytest.raises(KeyboardInterrupt), shown.step("compile"):
        raise KeyboardInterrupt
    assert shown._bars is None


@pytest.mark.parametrize(
    ("count", "total", "unit", "text"),
    [
        (0, None, "", ""),
        (3, None, "files", "3 files"),
        (3, 7, "tensors", "3 of 7 tensors"),
        (1500, None, "bytes", "1.5 KiB"),
    ],
)
def test_amounts(count, total, unit, text):
    assert progress._amount(count, total, unit) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_500, "1.5 KiB"),
        (92_871_040, "88.6 MiB"),
        (160_000_000, "153 MiB"),
        (1_800_000_000, "1.7 GiB"),
        (5 * 10**15, "4547 TiB"),
    ],
)
def test_sizes(count, text):
    assert output.size(count) == text
