"""Prompts by MLC's `conv_template`, for models whose tokenizer has no chat template of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from edge_router.chat.message import Message
from edge_router.chat.request import ReasoningOptions, Tool
from edge_router.errors import InvalidModel
from edge_router.prompts.forms import declared, told
from edge_router.prompts.template import UNASKED, MarkEscaper, unguarded
from edge_router.records import dataclass

_FUNCTIONS = "{function_string}"
_DEFAULTS = {"user": "{user_message}", "assistant": "{assistant_message}", "tool": "{tool_message}"}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Fields as in MLC's object of that name. `begin` are tokens before the text, `stops` end an answer."""

    roles: Mapping[str, str]
    role_templates: Mapping[str, str]
    seps: Sequence[str]  # behind a user's turn, and behind the assistant's
    system_template: str = "{system_message}"
    system_message: str = ""
    role_content_sep: str = ""
    role_empty_sep: str = ""
    add_role_after_system_message: bool = True
    function_string: str = ""
    begin: tuple[int, ...] = ()
    stops: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, value: object, model: str) -> Conversation | None:
        """From mlc-chat-config.json's `conv_template`; None where that tells nothing of turns.

        Raises `InvalidModel`.
        """
        if not isinstance(value, Mapping) or not any(value.get("roles", {}).values()):
            return None
        seps = list(value.get("seps") or ())
        if not 1 <= len(seps) <= 2 or not {"user", "assistant"} <= value["roles"].keys():
            raise InvalidModel(model, "its conv_template has no roles for two, or not one or two seps")
        same = ("system_template", "system_message", "role_content_sep", "role_empty_sep",
                "add_role_after_system_message", "function_string")  # fmt: skip
        given: dict[str, Any] = {name: value[name] for name in same if value.get(name) is not None}
        return cls(
            roles=value["roles"],
            role_templates={**_DEFAULTS, **(value.get("role_templates") or {})},
            seps=(seps[0], seps[-1]),
            begin=tuple(value.get("system_prefix_token_ids") or ()),
            stops=tuple(value.get("stop_str") or ()),
            **given,
        )

    def stopping(self, stops: Sequence[str]) -> Conversation:
        return replace(self, stops=tuple(stops))

    @property
    def takes_tools(self) -> bool:
        return _FUNCTIONS in self.role_templates["user"]

    @property
    def switches_thoughts(self) -> bool:
        return False

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        reasoning: ReasoningOptions = UNASKED,
        guard: MarkEscaper = unguarded,
    ) -> str:
        """The prompt, ready for the assistant's next words. `guard` is applied to each message's text.

        System messages, wherever they stand, replace the format's own.
        """
        turns = told(messages, guard)
        functions = [tool["function"] for tool in declared(tools, guard)]
        described = json.dumps(functions, ensure_ascii=False) if functions else self.function_string
        given = [str(turn["content"]) for turn in turns if turn["role"] == "system"]
        said = "\n\n".join(given) if given else self.system_message
        system = self.system_template.replace("{system_message}", said) if said else ""
        homeless = given if "{system_message}" not in self.system_template else []
        parts = [system]
        for turn in turns:
            if turn["role"] == "system":
                continue
            joined = not self.add_role_after_system_message and system and len(parts) == 1
            text = str(turn["content"])
            if turn["role"] != "assistant":
                text, homeless = "\n\n".join([*homeless, text]), []
            parts.append(self._turn(turn["role"], text, described, opened=not joined))
        if homeless:
            parts.append(self._turn("user", "\n\n".join(homeless), described, opened=True))
        return "".join([*parts, self.roles["assistant"], self.role_empty_sep])

    def _turn(self, who: str, text: str, functions: str, *, opened: bool) -> str:
        role = who if who in self.roles else "user"
        given = {_FUNCTIONS: functions, f"{{{role}_message}}": text}
        named = re.compile("|".join(map(re.escape, given)))
        said = named.sub(lambda found: given[found[0]], self.role_templates[role])
        prefix = self.roles[role] + self.role_content_sep if opened else ""
        return prefix + said + self.seps[who == "assistant"]
