"""MLC directories that need no quantizing: used as they lie, or brought up to date first.

Older repositories differ from today's in two ways that MLC itself no longer reads: the index is called
ndarray-cache.json, and `conv_template` is a bare name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from edge_router.compile.weights.conversation import conversation, named_conversation
from edge_router.errors import InvalidModel, UnknownName, WeightsCorrupt
from edge_router.parsing import strict_json
from edge_router.prompts.files import template_of

CONFIG = "mlc-chat-config.json"
INDEX, OLD_INDEX = "tensor-cache.json", "ndarray-cache.json"


def is_ready(path: Path) -> bool:
    return (path / CONFIG).is_file()


def is_current(path: Path, quantization: str) -> bool:
    """Whether a ready directory can be used as it is. Raises `InvalidModel` if it holds another format."""
    config = chat_config(path)
    held = config.get("quantization")
    if held != quantization:
        raise InvalidModel(path, f"holds {held} weights, not {quantization}")
    if not any((path / name).is_file() for name in (INDEX, OLD_INDEX)):
        raise InvalidModel(path, f"holds neither {INDEX} nor {OLD_INDEX}")
    return (path / INDEX).is_file() and isinstance(config.get("conv_template"), dict)


def bring_up_to_date(path: Path, folder: Path) -> None:
    """Fills `folder` with the directory in today's form; what needs no change is linked, not copied."""
    for file in path.iterdir():
        if file.is_file() and not file.name.startswith(".") and file.name not in (CONFIG, INDEX, OLD_INDEX):
            _link(file, folder / file.name)
    index = path / INDEX if (path / INDEX).is_file() else path / OLD_INDEX
    shutil.copyfile(index, folder / INDEX)
    config = chat_config(path)
    if not isinstance(config.get("conv_template"), dict):
        config["conv_template"] = _conversation(path, config)
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def chat_config(path: Path) -> dict[str, object]:
    """mlc-chat-config.json of a directory, with a `model_config`. Raises `InvalidModel`, `WeightsCorrupt`."""
    try:
        config = strict_json.read_object(path / CONFIG)
    except strict_json.NotJson as error:
        raise WeightsCorrupt(path / CONFIG, "JSON", str(error)) from error
    except OSError as error:
        raise InvalidModel(path, f"{CONFIG} cannot be read: {error.strerror}") from error
    if not isinstance(config.get("model_config"), dict):
        raise InvalidModel(path / CONFIG, "has no model_config")
    return cast("dict[str, object]", config)


def _conversation(path: Path, config: Mapping[str, object]) -> dict[str, object]:
    """From the tokenizer's own chat template; from the old name only where there is none."""
    ends = config.get("eos_token_id", 2)
    end_ids = [ends] if isinstance(ends, int) else list(cast("Sequence[int]", ends))
    begin = config.get("bos_token_id")
    begin_id = begin if isinstance(begin, int) else None
    template = template_of(path)
    if template is not None:
        return conversation(template, end_ids=end_ids)
    try:
        return named_conversation(str(config.get("conv_template")), end_ids=end_ids, begin_id=begin_id)
    except UnknownName as error:
        raise InvalidModel(path, f"its tokenizer has no chat template, and {error}") from error


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)
