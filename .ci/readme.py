"""Print the commands of the README's fenced block that follows the line `<!-- ci: NAME -->`."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def block(text: str, name: str) -> str:
    found = re.search(rf"<!-- ci: {re.escape(name)} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"README.md has no block marked {name!r}")
    return found.group(1)


if __name__ == "__main__":
    sys.stdout.write(
        block((Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8"), sys.argv[1])
    )
