"""On a real terminal: line editing, Ctrl-C, Ctrl-D, colours, questions."""

from __future__ import annotations

import re
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")

CTRL_C, CTRL_D = "\x03", "\x04"
SETTLE_S = 0.3  # CPython's readline misses a Ctrl-C in the instant in which it shows its prompt

SCRIPTED = """
from edge_router.cli import session
from edge_router.cli.chat import building
from edge_router.cli.main import main
from edge_router.api.client import Controller
from edge_router.engines.scripted import ScriptedEngine
from edge_router.routing.routers.controls import LengthRouter

weak = ScriptedEngine("First answer.", ["One ", 600.0, "two"], "\\x1b]0;pwned\\x07third", model_id="small")
session.make_controller = lambda config, paths, progress: Controller(
    config, weak=weak, router=LengthRouter(), paths=paths, progress=progress
)
building.is_ready = lambda config, paths: True
main()
"""


def test_a_conversation(terminal):
    person = terminal("chat", script=SCRIPTED)
    person.wait_for("> ")
    person.type("hello\n")
    shown = person.wait_for("> ")
    assert "First answer.\n" in shown and "\x1b[2msmall (weak)" in shown
    person.type("again\n")
    person.wait_for("One ")
    person.type(CTRL_C)
    assert "stopped" in person.wait_for("> ")
    person.type("line one\nline two\n")
    shown = person.wait_for("> ")
    assert "third" in shown and "\x1b]0;" not in shown
    person.type("/why\n")
    assert "answered by" in person.wait_for("> ")
    time.sleep(SETTLE_S)
    person.type(CTRL_C)
    assert "Ctrl-C once more leaves" in person.wait_for("> ")
    time.sleep(SETTLE_S)
    person.type(CTRL_C)
    assert person.end()[0] == 130


def test_ctrl_d_leaves_in_peace(terminal):
    person = terminal("chat", script=SCRIPTED)
    person.wait_for("> ")
    person.type(CTRL_D)
    assert person.end()[0] == 0


def test_colours_are_left_out_where_they_are_not_wanted(terminal, environment):
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        person = terminal(
            "chat", "hello", "--model", "weak", script=SCRIPTED, env={**environment, name: value}
        )
        code, shown = person.end()
        assert code == 0 and "\x1b[" not in shown and "First answer." in shown


def test_an_error_is_red_and_whole(terminal):
    person = terminal("chat", "hello", "--model", "nothing-of-that-name", script=SCRIPTED)
    code, shown = person.end()
    assert code == 2 and "\x1b[31merror: there is no model named 'nothing-of-that-name'" in shown


def test_a_table_on_a_terminal(terminal):
    code, shown = terminal("route", "hello [bold]there[/bold]", "-o", "router.name=length").end()
    assert code == 0 and "hello [bold]there[/bold]" in shown and "threshold" in shown


def test_nothing_is_removed_without_a_yes(terminal, home):
    leftover = home / "artifacts" / "library" / "abc"
    leftover.mkdir(parents=True)
    (leftover / "half.so").write_bytes(b"x" * 1000)
    person = terminal("artifacts", "clear")
    person.wait_for("[y/N]:")
    person.type("n\n")
    assert person.end()[0] == 0 and leftover.exists()
    person = terminal("artifacts", "clear")
    person.wait_for("[y/N]:")
    person.type("y\n")
    assert "Freed 1000 B." in person.end()[1] and not leftover.exists()


def test_ctrl_c_at_a_question_removes_nothing(terminal, home):
    leftover = home / "artifacts" / "library" / "abc"
    leftover.mkdir(parents=True)
    person = terminal("artifacts", "clear")
    person.wait_for("[y/N]:")
    time.sleep(SETTLE_S)
    person.type(CTRL_C)
    code, shown = person.end()
    assert code == 130 and leftover.exists() and "Traceback" not in shown


def test_a_bar_that_a_thread_is_left_with_hides_no_cursor(terminal):
    person = terminal(
        script="""
import threading
from edge_router.cli.main import main
from edge_router.cli.terminal.output import finish
from edge_router.cli.terminal.progress import BarProgress

begun = threading.Event()

def load():
    with BarProgress().step("load"):
        begun.set()
        threading.Event().wait()

threading.Thread(target=load, daemon=True).start()
begun.wait()
finish()
"""
    )
    code, shown = person.end()
    assert code == 0 and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_the_link_to_the_dashboard_is_for_who_sits_there(terminal):
    person = terminal("serve", "--port", "0", script=SCRIPTED)
    link = re.search(r"once: (\S+)", person.wait_for("?token=") + person.wait_for("\n"))
    assert link is not None and re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", link[1])
    person.type(CTRL_C)
    assert person.end()[0] == 0
