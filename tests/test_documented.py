"""What others build on is documented where it stands: each protocol's methods, and what callers use."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "edge_router"
PROTOCOLS = ("engines/base.py", "surfaces/base.py", "routing/routers/base.py")
USED = ("api", "chat", "config")


def undocumented(file: Path) -> Iterator[str]:
    """Public classes, functions and methods without a word; overloads are told once."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for each in (node, *inner):
            if not isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            overload = any("overload" in ast.unparse(one) for one in each.decorator_list)
            if not (each.name.startswith("_") or overload or ast.get_docstring(each)):
                yield f"{file.relative_to(PACKAGE)}:{each.lineno} {each.name}"


def test_what_is_built_on_is_documented_where_it_stands() -> None:
    files = [*(PACKAGE / name for name in PROTOCOLS)]
    files += [file for folder in USED for file in sorted((PACKAGE / folder).glob("*.py"))]
    assert len(files) > 25
    assert [lack for file in files for lack in undocumented(file)] == []
