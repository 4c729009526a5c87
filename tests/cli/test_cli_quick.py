"""What is read without typer is read as typer would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from table import each

from edge_router.cli.chat import quick
from edge_router.cli.chat.question import ChatQuestion
from edge_router.cli.command_line import parser
from edge_router.cli.lazy import get_command
from edge_router.cli.options import Options
from edge_router.cli.verbs import chat

READ: list[tuple[str, ChatQuestion, Options]] = [
    ("chat|What?", ChatQuestion(("What?",)), Options()),
    ("chat|What|is|it?", ChatQuestion(("What", "is", "it?")), Options()),
    ("chat|-m|weak|--temperature|0|Why?|--json", ChatQuestion(("Why?",), "weak", temperature=0.0, json=True), Options()),
    ("chat|--max-tokens=5|--seed|-3|a", ChatQuestion(("a",), max_tokens=5, seed=-3), Options()),
    ("chat|--system|Be brief.|a|--no-thinking|-y", ChatQuestion(("a",), system="Be brief.", thinking=False, yes=True), Options()),
    ("chat|--private|--offline|--thinking|a", ChatQuestion(("a",), private=True, offline=True, thinking=True), Options()),
    ("chat|--device=cpu|--threads|2|--top-p|.5|a", ChatQuestion(("a",), device="cpu", threads=2, top_p=0.5), Options()),
    ("chat|--resume|last|--keep|a", ChatQuestion(("a",), keep=True, resume="last"), Options()),
    ("-q|--config|f.toml|chat|a", ChatQuestion(("a",)), Options(Path("f.toml"), quiet=True)),
    ("chat|a|-o|weak.threads=2|--set=x.y=a=b|--debug", ChatQuestion(("a",)), Options(None, {"weak.threads": "2", "x.y": "a=b"}, True)),
]  # fmt: skip
LEFT = (
    "", "chat", "chat|--help", "chat|-h|a", "chat| ", "chat|--json", "route|chat", "What?|chat", "chat|--unknown|a",
    "chat|a|--max-tokens|many", "chat|a|--seed", "chat|-qy|a", "chat|-mweak|a", "chat|--|-a", "chat|-|a", "chat|a|-o|b",
    "chat|a|--set|=b", "--version|chat|a",
)  # fmt: skip


@each("line, question, options", READ)
def test_it_reads_what_is_mostly_typed(line: str, question: ChatQuestion, options: Options) -> None:
    typed, found = quick.read(line.split("|")), Options()
    assert typed is not None
    found.add(**typed.options)
    assert (ChatQuestion(**typed.fields), found) == (question, options)


@each("line, question, options", READ)
def test_typer_reads_the_same(
    line: str, question: ChatQuestion, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(chat, "ask", lambda ctx, question: asked.append((question, ctx.obj)))
    parser().main(line.split("|"), prog_name="edge-router", obj=Options(), standalone_mode=False)
    assert asked == [(question, options)]


@each("line", LEFT)
def test_it_leaves_the_rest_to_typer(line: str) -> None:
    assert quick.read(line.split("|")) is None


def test_a_shell_that_asks_how_a_word_ends_is_typers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_EDGE_ROUTER_COMPLETE", "complete_bash")
    assert quick.read(["chat", "a"]) is None


def test_it_knows_every_option_of_the_verb_and_of_the_root() -> None:
    params = [*parser().params, *get_command(chat.app).params]
    written = {name for one in params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}
    typers = {"--version", "--help", "-h"}
    assert {*quick.TAKING, *quick.SWITCHES} == written - typers
