"""What an engine needs of a model directory beside the weights: the tokenizer, the template, the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_router.device.process import can_reserve
from edge_router.errors import InvalidModel, OutOfMemory
from edge_router.parsing import strict_json
from edge_router.prompts.answer_format import AnswerFormat, speech_marks
from edge_router.prompts.conversation import Conversation
from edge_router.prompts.files import CONFIG_FILE, read_object
from edge_router.prompts.template import ChatTemplate, Template, special_tokens
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.prompts.turns import END_NAMES, Turns, named_ends
from edge_router.records import dataclass

_TOKENIZER = 32  # times its file is what a tokenizer takes while it is made, generously


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A directory in MLC's format, as far as it concerns text."""

    path: Path
    config: Mapping[str, object]  # mlc-chat-config.json
    tokenizer: TextTokenizer
    template: Template | None
    end_tokens: frozenset[int]
    answers: AnswerFormat

    @classmethod
    def read(cls, path: Path, model_id: str) -> ModelDirectory:
        """Raises `InvalidModel`, `OutOfMemory`, `TemplateError`."""
        config = read_config(path)
        file = path / "tokenizer.json"
        if not file.is_file():
            raise InvalidModel(path, f"{file.name} is missing")
        needed = _TOKENIZER * file.stat().st_size if file.is_file() else 0
        if needed and not can_reserve(needed):  # the library would end the process
            raise OutOfMemory(model_id, "no room for the tokenizer", needed)
        template: Template | None = ChatTemplate.from_directory(path, model_id)
        template = template or Conversation.of(config.get("conv_template"), model_id)
        turns = Turns.of(template)
        tokenizer = TextTokenizer(file, turns.marks, speech_marks(template))
        answers = AnswerFormat.of(template, tokenizer.added)
        tokenizer.reveal(answers.marks)
        ends = _stated_ends(config, special_tokens(read_object(path / CONFIG_FILE)), tokenizer)
        written = turns.end_tokens(tokenizer.added)
        if template is not None:
            template = template.stopping(_stops(config, template, turns, tokenizer, ended=bool(written)))
        return cls(path, config, tokenizer, template, frozenset({*ends, *written}), answers)


def lacking(path: Path, model_id: str) -> str | None:
    """What the directory has too little of to be talked to, read by what will read it to run it.

    Raises what `ModelDirectory.read` raises for one that can't be run at all.
    """
    directory = ModelDirectory.read(path, model_id)
    if directory.template is None:
        return f"{model_id} has no chat template: it can complete texts, and answers no chat"
    if not directory.end_tokens and not directory.template.stops:
        return f"nothing of {model_id} says what ends an answer: each will go on to its limit"
    return None


def read_config(path: Path) -> dict[str, object]:
    """mlc-chat-config.json. Raises `InvalidModel`."""
    file = path / "mlc-chat-config.json"
    try:
        return strict_json.read_object(file)
    except (OSError, strict_json.NotJson) as error:
        raise InvalidModel(file, f"cannot be read: {error}") from error


def longest_answer(config: Mapping[str, object]) -> int | None:
    """Tokens of an answer where nobody says how many; one of a model that forgets might never end."""
    window = config.get("sliding_window_size")
    return window if isinstance(window, int) and window > 0 else None


def _stated_ends(
    config: Mapping[str, object], special: Mapping[str, str], tokenizer: TextTokenizer
) -> list[int]:
    """Whatever any of the files says ends an answer, and what does by its name."""
    conversation = config.get("conv_template")
    given: Mapping[str, object] = conversation if isinstance(conversation, Mapping) else {}
    found = [
        item for value in (config.get("eos_token_id"), given.get("stop_token_ids")) for item in _listed(value)
        if isinstance(item, int)
    ]  # fmt: skip
    names = [special.get("eos_token"), *_listed(given.get("stop_str")), *END_NAMES]
    return found + named_ends(tokenizer.token, [name for name in names if isinstance(name, str)])


def _stops(
    config: Mapping[str, object],
    template: Template,
    turns: Turns,
    tokenizer: TextTokenizer,
    *,
    ended: bool,
) -> list[str]:
    """The texts that end an answer, where no token does: a text may hold such words, and go on."""
    if ended:
        return list(template.stops)
    conversation = config.get("conv_template")
    stated = _listed(conversation.get("stop_str")) if isinstance(conversation, Mapping) else []
    texts = [*template.stops, *stated, turns.stop]
    return list(
        dict.fromkeys(text for text in texts if isinstance(text, str) and text not in tokenizer.added)
    )


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]
