import json
import os
from importlib.metadata import version
from pathlib import Path

LIBRARY_HEAD = "a library of mlc_llm "


def library_text() -> str:
    return LIBRARY_HEAD + version("mlc-llm-standin")


def log(event: str, **facts: object) -> None:
    with Path(os.environ["MLC_STANDIN_LOG"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, **facts}) + "\n")
