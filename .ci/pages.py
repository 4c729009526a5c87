"""Print what the READMEs and guides say of themselves: a line for each file, a line for each setting.

`--write` puts each part into its page, between the lines `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def first_sentence(file: Path) -> str:
    """Raises `SystemExit` for a file that says nothing of itself."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0]
    if not sentence:
        raise SystemExit(f"{file.relative_to(ROOT)} has no docstring")
    return sentence.rstrip(".")


def lines(folder: Path, depth: int = 0) -> list[str]:
    """`folder`, its files and then its folders."""
    init = folder / "__init__.py"
    pad = "  " * depth
    files = sorted(file for file in folder.glob("*.py") if file != init)
    found = [f"{pad}{folder.name}/".ljust(30) + first_sentence(init)]
    found += [f"{pad}  {file.name}".ljust(30) + first_sentence(file) for file in files]
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        found += lines(inner, depth + 1)
    return found


def structure(folder: str) -> str:
    return "\n".join(["```", *lines(ROOT / folder), "```", ""])


def settings() -> str:
    """A row for each key: its default, its meaning as `config init` tells it."""
    from edge_router.cli.verbs.configuration import COMMENTS, NAMED_COMMENTS, toml
    from edge_router.config.settings import Config

    def row(key: str, default: object, meaning: str) -> str:
        shown = "" if default is None else f"`{toml(default)}`"
        return f"| `{key}` | {shown} | {meaning} |".replace("||", "\\|\\|")

    config = Config()
    rows = [row(key, config.get(key), meaning) for key, meaning in COMMENTS.items()]
    rows += [
        row(f"{table}.NAME.{name}", None, meaning)
        for table, comments in NAMED_COMMENTS.items()
        for name, meaning in comments.items()
    ]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows, ""])


def arguments() -> str:
    """A field for each key, as a keyword argument."""
    from types import NoneType, UnionType
    from typing import Any, get_args, get_type_hints

    from edge_router.config.settings import Config, keys
    from edge_router.config.tiers import TierConfig

    def words(hint: Any) -> str:
        if isinstance(hint, UnionType):
            return " | ".join(map(words, get_args(hint)))
        if get_args(hint):
            inner = get_args(hint)[0]
            return "Sequence[TierConfig] | str" if inner is TierConfig else f"Sequence[{inner.__name__}]"
        return "None" if hint is NoneType else str(hint.__name__)

    sections = get_type_hints(Config)
    found = []
    for key in keys():
        section, _, name = key.rpartition(".")
        hint = get_type_hints(sections[section])[name] if section else sections[name]
        found.append(f"    {key.replace('.', '__')}: {words(hint)}\n")
    return "".join(found) + "    # "


def correspondences() -> str:
    """A row for each share of strong calls: the threshold of each router that ships, over typical prompts."""
    from edge_router.catalog import router_cards
    from edge_router.routing.routers.fitting import quantile

    cards = {name: card for name, card in router_cards().items() if card.typical_scores}
    rows = [
        [f"{share:.0%}", *(f"{quantile(card.typical_scores, 1 - share):.3f}" for card in cards.values())]
        for share in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
    ]
    head = ["to the strong model", *(f"`{name}`" for name in cards)]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([*lines, ""])


def style() -> str:
    """Our figures of style beside those of the projects that are examples."""
    sys.path.insert(0, str(Path(__file__).parent))
    from style import table

    return table()


PAGES: dict[tuple[str, str], Callable[[], str]] = {
    ("edge_router/README.md", "structure"): lambda: structure("edge_router"),
    ("compile/README.md", "structure"): lambda: structure("compile"),
    ("edge_router/guide/settings.md", "settings"): settings,
    ("edge_router/guide/routellm.md", "correspondences"): correspondences,
    ("edge_router/config/arguments.py", "arguments"): arguments,
    ("tests/README.md", "style"): style,
}


def renewed(page: str, name: str, part: str) -> str:
    """The page's text with its part `name` as it ought to be."""
    text = (ROOT / page).read_text(encoding="utf-8")
    marked = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"{page} has no place for {name!r}")
    return marked.sub(lambda _: part, text)


def main() -> None:
    for (page, name), part in PAGES.items():
        if "--write" in sys.argv:
            (ROOT / page).write_text(renewed(page, name, part()), encoding="utf-8")
        elif renewed(page, name, part()) != (ROOT / page).read_text(encoding="utf-8"):
            raise SystemExit(f"{page} is not what `python .ci/pages.py --write` writes")


if __name__ == "__main__":
    main()
