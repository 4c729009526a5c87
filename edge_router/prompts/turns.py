"""Where a turn ends: told from what a template writes between turns, and from what tokens are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from edge_router.chat.message import Message
from edge_router.errors import TemplateError
from edge_router.prompts.template import Template
from edge_router.records import dataclass

# Tokens that end an answer wherever a vocabulary has them, whatever it says of them.
END_NAMES = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<｜end▁of▁sentence｜>",
    "<|EOT|>",
    "<|END_OF_TURN_TOKEN|>",
)
MARK = re.compile(
    r"<\|[^<>|\s]{1,60}\|>|<｜[^<>｜\s]{1,60}｜>|<<?/?[A-Za-z_]\w{0,40}>>?|\[/?[A-Z][A-Z_]{1,40}\]"
)
_HEADING = re.compile(r"#{1,6} ?[A-Za-z][A-Za-z ]{0,30}:")
_USER, _ANSWER, _NEXT, _SYSTEM = "qzjaskedjzq", "qzjsaidjzq", "qzjnextjzq", "qzjrulesjzq"
_SHORTEST_STOP = 3  # characters; less would cut answers in two


@dataclass(frozen=True, slots=True)
class Turns:
    """What a template writes around turns: `before` an answer, `after` it, and around a `system` message."""

    before: str = ""
    after: str = ""
    system: str = ""

    @classmethod
    def of(cls, template: Template | None) -> Turns:
        """Seen in a conversation of made-up words; nothing of a template that takes none."""
        if template is None:
            return cls()
        talk = [Message("user", _USER), Message("assistant", _ANSWER), Message("user", _NEXT)]
        plain = _written(template, talk)
        ruled = _written(template, [Message("system", _SYSTEM), *talk])
        begin = ruled.find(_SYSTEM)
        around = ruled[max(0, begin - 80) : begin] + _between(ruled, _SYSTEM, _USER) if begin >= 0 else ""
        return cls(_between(plain, _USER, _ANSWER), _between(plain, _ANSWER, _NEXT), around)

    @property
    def marks(self) -> tuple[str, ...]:
        """What looks like a mark in it, such as <|user|>, [INST] and "### Instruction:"."""
        text = f"{self.system}\n{self.before}\n{self.after}"
        return tuple(dict.fromkeys([*MARK.findall(text), *_HEADING.findall(text)]))

    def end_tokens(self, added: Mapping[str, int]) -> list[int]:
        """Those of the tokens `added` to a vocabulary that are written after an answer.

        The first ends it. The others open the next turn, which in mid-answer is one that is made up.
        """
        names = sorted((name for name in added if is_mark(name)), key=len, reverse=True)
        if not names or not self.after:
            return []
        found = re.findall("|".join(map(re.escape, names)), self.after)
        return list(dict.fromkeys(added[name] for name in found))

    @property
    def stop(self) -> str | None:
        """The text that ends an answer where a template's marks are no tokens; None where there is none."""
        blank, first = re.match(r"(\s*)([^\n]*)", self.after).groups()  # type: ignore[union-attr]
        text = ("\n" if "\n" in blank else "") + first.rstrip()
        return text if len(text) >= _SHORTEST_STOP and not text.isalnum() else None


def is_mark(name: str) -> bool:
    """Whether an added token is more than white space, which ordinary texts are full of."""
    return bool(name.strip().strip("▁"))


def named_ends(token: Callable[[str], int | None], names: Iterable[str] = END_NAMES) -> list[int]:
    """Tokens that end an answer by their name."""
    return [found for name in names if (found := token(name)) is not None]


def _written(template: Template, messages: list[Message]) -> str:
    try:
        return template.render(messages)
    except TemplateError:
        return ""


def _between(text: str, first: str, second: str) -> str:
    begin, end = text.find(first), text.find(second)
    return text[begin + len(first) : end] if 0 <= begin < end else ""
