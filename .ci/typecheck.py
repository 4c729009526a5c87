"""mypy --strict over the package as it is installed: compile/ and models/ inside edge_router/."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = {"edge_router": "edge_router", "compile": "edge_router/compile", "models": "edge_router/models"}


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for source, target in HOMES.items():
            shutil.copytree(
                ROOT / source,
                place / target,
                ignore=shutil.ignore_patterns("__pycache__"),
                dirs_exist_ok=True,
            )
        shutil.copy(ROOT / "pyproject.toml", place)
        command = [sys.executable, "-m", "mypy", "-p", "edge_router", *sys.argv[1:]]
        return subprocess.run(command, cwd=place, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
