"""Write a router's card: what the program measured, never numbers typed in by hand."""

from __future__ import annotations

import json
from pathlib import Path

from edge_router.catalog import RouterCard
from edge_router.routing.evaluation import Evaluation

_FIELDS = (
    "name",
    "encoder",
    "graph",
    "tokenizer",
    "default_threshold",
    "typical_scores",
    "max_tokens",
    "description",
    "trained_on",
    "license",
    "kind",
    "temperature",
    "special_tokens",
)
_DEFAULTS = ("", (), "score", 1.0)  # which need not be said


def write_card(card: RouterCard, measured: Evaluation | None = None) -> None:
    """`card.directory`/card.toml. With `measured`, a table per benchmark: each router's APGR."""
    lines = [
        f"{name} = {_toml(getattr(card, name))}" for name in _FIELDS if getattr(card, name) not in _DEFAULTS
    ]
    for group, routers in (measured.to_dict() if measured else {}).items():
        lines += ["", f"[metrics.{_key(group)}]", f"n = {next(iter(routers.values()))['n']}"]
        for router, found in routers.items():
            values = {name: value for name, value in found.items() if name != "n" and value is not None}
            inner = ", ".join(f"{name} = {_toml(value)}" for name, value in values.items())
            lines.append(f"{_key(router)} = {{ {inner} }}")
    Path(str(card.directory / "card.toml")).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    if isinstance(value, float):
        return repr(round(value, 6))
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # A JSON string is a TOML basic string, as long as nothing outside the basic plane is escaped.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _toml(name)
