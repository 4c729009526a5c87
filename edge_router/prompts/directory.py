"""What an engine needs of a model directory beside the weights: the tokenizer, the template, the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_router.device.process import can_reserve
from edge_router.errors import InvalidModel, OutOfMemory
from edge_router.prompts.conversation import Conversation
from edge_router.prompts.template import ChatTemplate, Template, special_tokens
from edge_router.prompts.tokenizer import TextTokenizer

_TOKENIZER = 32  # times its file is what a tokenizer takes while it is made, generously


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A directory in MLC's format, as far as it concerns text."""

    path: Path
    config: Mapping[str, object]  # mlc-chat-config.json
    tokenizer: TextTokenizer
    template: Template | None
    end_tokens: frozenset[int]

    @classmethod
    def read(cls, path: Path, model_id: str) -> ModelDirectory:
        """Raises `InvalidModel`, `OutOfMemory`, `TemplateError`."""
        config = read_config(path)
        file = path / "tokenizer.json"
        needed = _TOKENIZER * file.stat().st_size if file.is_file() else 0
        if needed and not can_reserve(needed):  # the library would end the process
            raise OutOfMemory(model_id, "no room for the tokenizer", needed)
        tokenizer = TextTokenizer(file)
        return cls(
            path,
            config,
            tokenizer,
            ChatTemplate.from_directory(path, model_id)
            or Conversation.of(config.get("conv_template"), model_id),
            _end_tokens(config, special_tokens(path), tokenizer),
        )


def read_config(path: Path) -> dict[str, object]:
    """mlc-chat-config.json. Raises `InvalidModel`."""
    file = path / "mlc-chat-config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(file, f"cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise InvalidModel(file, "does not hold an object")
    return config


def longest_answer(config: Mapping[str, object]) -> int | None:
    """Tokens of an answer where nobody says how many; one of a model that forgets might never end."""
    window = config.get("sliding_window_size")
    return window if isinstance(window, int) and window > 0 else None


def _end_tokens(
    config: Mapping[str, object], special: Mapping[str, str], tokenizer: TextTokenizer
) -> frozenset[int]:
    """Whatever any of the files says ends an answer."""
    conversation = config.get("conv_template")
    stops = conversation.get("stop_token_ids") if isinstance(conversation, Mapping) else None
    found: set[int] = set()
    for value in (config.get("eos_token_id"), stops):
        values = value if isinstance(value, list) else [value]
        found.update(item for item in values if isinstance(item, int))
    named = tokenizer.token(special["eos_token"]) if "eos_token" in special else None
    return frozenset(found if named is None else found | {named})
