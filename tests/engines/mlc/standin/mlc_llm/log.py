import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

MADE_BY = "made by mlc_llm"


def library_text(**compiled: object) -> str:
    """What the compiler writes in a library's place: who made it, and the windows that are compiled in."""
    return json.dumps({MADE_BY: version("mlc-llm-standin"), **compiled})


def read_library(file: Path) -> dict[str, Any]:
    """What a library tells of itself; nothing for one that the stand-in has not made, such as a real one."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    if found[MADE_BY] != version("mlc-llm-standin"):
        raise RuntimeError("InternalError: Check failed: cache_config.size() == 5 (6 vs. 5)")
    return dict(found)


def log(event: str, **facts: object) -> None:
    with Path(os.environ["MLC_STANDIN_LOG"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, **facts}) + "\n")
