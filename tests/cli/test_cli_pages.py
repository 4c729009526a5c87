"""What the pages tell to type is what the command line takes, and their links lead somewhere from PyPI, too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration  # every verb is loaded

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "edge_router").rglob("*.md")),
    *sorted(ROOT.glob("[cmt]*/README.md")),
]
GUIDE = ROOT / "edge_router" / "guide"


def typed(text: str) -> Iterator[list[str]]:
    """The arguments of each `edge-router` in a shell's lines, and in the text around them."""
    fences = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in fences.findall(text) if language in ("", "bash")]
    prose = fences.sub("", text)
    inline = re.findall(r"`(edge-router [^`]+)`", prose)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    for line in (*lines, *(" ".join(found.split()) for found in inline)):
        line = line.removeprefix("$ ")
        if "edge-router " in line and re.match(
            r"edge-router |\w+ .*\| *edge-router |python3? .*&& edge-router", line
        ):
            yield from commands(line)


def commands(line: str) -> Iterator[list[str]]:
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    words.commenters = "#"
    words.whitespace_split = True
    current = list[str]()
    for word in (*words, ";"):
        if set(word) <= set("|&;<>"):
            if current[:1] == ["edge-router"]:
                yield current[1:]
            current = []
        else:
            current.append(word)


def test_every_command_of_the_pages_is_accepted(accepts):
    told = [(page, words) for page in PAGES for words in typed(page.read_text(encoding="utf-8"))]
    assert len(told) > 100
    refused = []
    for page, words in told:
        try:
            accepts([word for word in words if word not in ("...", "[...]")])
        except Exception as error:  # noqa: BLE001 - told with the page
            refused.append(f"{page.relative_to(ROOT)}: edge-router {shlex.join(words)}: {error}")
    assert not refused, "\n".join(refused)
