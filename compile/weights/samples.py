"""The texts that ship for measuring: prose, code, tables and conversations, written for this project.

`texts/calibration.txt` is what quantizers may look at, `texts/evaluation.txt` what they are judged on.
Documents are separated by a line of "===="; one that begins with "user: " is a conversation.
"""

from __future__ import annotations

import re
from importlib.resources import files

from edge_router.compile.readers.base import WeightsReader, parse_json

_SPEAKER = re.compile(r"\n(?=(?:user|assistant): )")


def token_sequences(reader: WeightsReader, name: str) -> list[list[int]]:
    """The documents of `texts/NAME.txt` as the model's tokens, conversations in its own chat format."""
    from tokenizers import Tokenizer

    described = reader.tokenizer_files()
    tokenizer = Tokenizer.from_str(described["tokenizer.json"].decode("utf-8"))
    template = parse_json(described["tokenizer_config.json"], reader.source / "tokenizer_config.json").get(
        "chat_template"
    )
    return [
        tokenizer.encode(_rendered(document, template), add_special_tokens=False).ids
        for document in documents(name)
    ]


def documents(name: str) -> list[str]:
    text = (files("edge_router.compile.weights") / "texts" / f"{name}.txt").read_text(encoding="utf-8")
    return [document.strip("\n") for document in text.split("\n====\n")]


def _rendered(document: str, template: str | None) -> str:
    if template is None or not document.startswith("user: "):
        return document
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    turns = [turn.partition(": ") for turn in _SPEAKER.split(document)]
    messages = [{"role": role, "content": content} for role, _, content in turns]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(messages=messages, bos_token="", eos_token="")
