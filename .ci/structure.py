"""Print the README's page of structure: a line for each file, the first sentence of its docstring.

`--write` puts it into the README, between the lines `<!-- structure -->` and `<!-- /structure -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("edge_router", "compile", "models")
MARKED = re.compile(r"(?<=<!-- structure -->\n).*?(?=<!-- /structure -->)", re.DOTALL)


def first_sentence(file: Path) -> str:
    """Raises `SystemExit` for a file that says nothing of itself."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0]
    if not sentence:
        raise SystemExit(f"{file.relative_to(ROOT)} has no docstring")
    return sentence.rstrip(".")


def lines(folder: Path) -> list[str]:
    """`folder`, its files and then its folders."""
    init = folder / "__init__.py"
    depth = len(folder.relative_to(ROOT).parts) - 1
    pad = "  " * depth
    files = sorted(file for file in folder.glob("*.py") if file != init)
    found = [f"{pad}{folder.name}/".ljust(30) + first_sentence(init)]
    found += [f"{pad}  {file.name}".ljust(30) + first_sentence(file) for file in files]
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        found += lines(inner)
    return found


def page() -> str:
    found = [line for name in FOLDERS for line in lines(ROOT / name)]
    return "\n".join(["```", *found, "```", ""])


def main() -> None:
    readme = ROOT / "README.md"
    if "--write" in sys.argv:
        text = readme.read_text(encoding="utf-8")
        readme.write_text(MARKED.sub(lambda _: page(), text), encoding="utf-8")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
