"""Figures of style, of this project and of others: `python .ci/style.py [NAME PACKAGE [TESTS]]`.

Of all Python files, tests apart. In tests/README.md ours are rounded, so that the table lasts;
without arguments they are written as counted.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = (
    "project",
    "files",
    "lines",
    "median / longest file",
    "names of several files",
    "names of several classes",
    "lines of tests",
    "private attributes in tests",
    "monkeypatch in tests",
)
# Counted with it on their source packages from PyPI, of which llm's holds no tests. mini-sglang is on
# no index: its longest and median file were counted in its repository.
ANCHORS = (
    "| starlette 1.10.0 | 36 | 7,075 | 147 / 772 | 2 | 0 | 14,111 | 5 | 13 |",
    "| httpx 0.28.1 | 23 | 8,828 | 248 / 2,019 | 0 | 0 | 8,923 | 21 | 2 |",
    "| llm 0.36 | 19 | 16,490 | 271 / 4,426 | 0 | 1 | - | - | - |",
    "| mini-sglang | - | - | 70 / 502 | - | - | - | - | - |",
)
# A private attribute of something else, and something put in the place of code.
_PRIVATE = re.compile(r"(?<=[\w\])])(?<!\bself)(?<!\bcls)\._[a-zA-Z]\w*")
_PATCHED = re.compile(r"\b(?:monkeypatch\.(?:set|del)(?:attr|item)|mock\.patch)\b")
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)


class Counted:
    """Of all Python files in some folders."""

    def __init__(self, *folders: Path) -> None:
        self.files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
        self.texts = [file.read_text(encoding="utf-8") for file in self.files]
        self.lengths = [len(text.splitlines()) for text in self.texts if text.strip()]

    @property
    def lines(self) -> int:
        return sum(self.lengths)

    def shared_files(self) -> int:
        """How many names belong to more than one file."""
        return _shared(file.name for file in self.files if file.stem not in ("__init__", "__main__"))

    def shared_classes(self) -> int:
        """How many names belong to more than one class."""
        return _shared(name for text in self.texts for name in _CLASS.findall(text))

    def uses(self, what: re.Pattern[str]) -> int:
        return sum(len(what.findall(text)) for text in self.texts)


def _shared(names: Iterable[str]) -> int:
    return sum(count > 1 for count in Counter(names).values())


def row(name: str, source: Counted, tests: Counted, *, rounded: bool) -> str:
    """A line of the table; "-" for what there are no tests to count in."""

    def about(count: float, step: int) -> str:
        return f"{round(count / step) * step if rounded else round(count):,}"

    tested = [about(tests.lines, 5000), about(tests.uses(_PRIVATE), 20), about(tests.uses(_PATCHED), 20)]
    cells = (
        name,
        about(len(source.files), 50),
        about(source.lines, 5000),
        f"{about(median(source.lengths), 10)} / {about(max(source.lengths), 50)}",
        about(source.shared_files(), 10),
        about(source.shared_classes(), 10),
        *(tested if tests.files else ["-"] * len(tested)),
    )
    return f"| {' | '.join(cells)} |"


def table(*, rounded: bool = True) -> str:
    """Ours and the anchors'."""
    own = Counted(ROOT / "edge_router", ROOT / "compile", ROOT / "models")
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*head, row("edge_router", own, Counted(ROOT / "tests"), rounded=rounded), *ANCHORS, ""])


def main() -> None:
    if len(sys.argv) < 3:
        sys.stdout.write(table(rounded=False))
        return
    name, package, *tests = sys.argv[1:]
    line = row(name, Counted(Path(package)), Counted(*map(Path, tests)), rounded=False)
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
