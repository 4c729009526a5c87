"""Rules of a grammar in llguidance's dialect of Lark's, under names of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping


class Rules:
    """What stands behind a name is given its name; the same has one name only."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, str] = {}  # by their bodies

    def rule(self, body: str) -> str:
        return self._named("r", body)

    def terminal(self, pattern: str) -> str:
        return self._named("T", pattern)

    def lazy(self, pattern: str) -> str:
        """A text that is over where `pattern` first fits."""
        return self._named("lazy", pattern)

    def json(self, schema: Mapping[str, object]) -> str:
        return self.rule(f"%json {json.dumps(schema)}")

    def announced(self) -> str:
        """The name of a rule that is yet to be defined, for it may hold itself."""
        self._lines.append("")
        return f"r{len(self._lines)}"

    def define(self, name: str, body: str) -> None:
        self._lines[int(name[1:]) - 1] = f"{name}: {body}"

    def lines(self) -> Iterable[str]:
        return self._lines

    def _named(self, kind: str, body: str) -> str:
        name = self._names.get(body)
        if name is None:
            self._names[body] = name = f"{kind}{len(self._lines) + 1}"
            self._lines.append(f"{name}{'[lazy]' if kind == 'lazy' else ''}: {body}")
        return name


def literal(text: str) -> str:
    """`text` as a grammar has it; nothing where it is empty, which no text in a grammar may be."""
    return json.dumps(text, ensure_ascii=False) if text else ""


def sequence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def either(parts: Iterable[str]) -> str:
    return f"({' | '.join(parts)})"
