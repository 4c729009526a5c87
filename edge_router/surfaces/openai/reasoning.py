"""Whether to think before the answer, in the many words that clients of OpenAI's protocol have for it. Pure.

The fields themselves stay in a request as they came: each endpoint knows its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.request import ReasoningOptions
from edge_router.parsing.fields import Fields, listed
from edge_router.surfaces.limits import EFFORTS

Held = Mapping[str, object]
_NONE = "none"  # as an effort
_LEAST = ("minimal",)  # an effort that asks for hardly any thoughts
_SWITCHES = {
    **dict.fromkeys(("disabled", "off", "false"), False),
    **dict.fromkeys(("enabled", "on", "true", "adaptive", "auto", "default"), True),
}


def read_reasoning(passed: Held) -> ReasoningOptions:
    """Of a body's fields. Of those that contradict each other the first in this order is believed:
    `reasoning_effort`, `reasoning` (OpenRouter), `chat_template_kwargs` (vLLM, llama.cpp), `thinking`
    (Anthropic), `think` (Ollama), `enable_thinking`. Raises `InvalidRequest`.
    """
    fields = Fields(passed)
    reasoning, template = _within(fields, "reasoning"), _within(fields, "chat_template_kwargs")
    thinking = Fields({}) if isinstance(fields.get("thinking"), bool) else _within(fields, "thinking")
    stated = [
        _stated(where, name)
        for where, name in (
            *((fields, "reasoning_effort"), (reasoning, "effort"), (reasoning, "enabled")),
            *((template, "reasoning_effort"), (template, "enable_thinking"), (template, "thinking")),
            *((thinking, "type"), (fields, "thinking"), (fields, "think"), (fields, "enable_thinking")),
        )
    ]
    enabled = next((on for on, _ in stated if on is not None), None)
    effort = next((word for _, word in stated if word is not None), None)
    if effort is not None:
        enabled = False if effort == _NONE else enabled if effort in _LEAST else True
    budgets = ((reasoning, "max_tokens"), (thinking, "budget_tokens"), (fields, "thinking_budget"))
    budget = next((count for where, name in budgets if (count := where.integer(name)) is not None), None)
    if budget == 0 and effort is None:
        enabled = False
    if enabled is None and budget is not None and budget > 0:
        enabled = True
    hidden = reasoning.boolean("exclude") or not fields.boolean("include_reasoning", default=True)
    return ReasoningOptions(
        enabled,
        None if effort == _NONE else effort,
        budget if budget is not None and budget > 0 else None,
        not hidden,
    )


def written_reasoning(options: ReasoningOptions) -> dict[str, object]:
    """The field for an endpoint, of a request that came by another protocol.

    One that refuses "none" is sent nothing in its place from then on, as with any value.
    """
    if options.enabled is False:
        return {"reasoning_effort": _NONE}
    if options.effort is not None:
        return {"reasoning_effort": options.effort}
    return {"reasoning_effort": "medium"} if options.enabled else {}


def _within(fields: Fields, name: str) -> Fields:
    return fields.object(name) or Fields({}, within=name)


def _stated(fields: Fields, name: str) -> tuple[bool | None, str | None]:
    """Whether to think, or how much. An empty word is none, as some programs write it."""
    value = fields.get(name)
    if isinstance(value, bool):
        return value, None
    if value in (None, "") or (name == "thinking" and isinstance(value, Mapping)):
        return None, None
    if isinstance(value, str) and value.lower() in _SWITCHES:
        return _SWITCHES[value.lower()], None
    if isinstance(value, str) and value in EFFORTS:
        return None, value
    raise fields.refuse(name, f"must be {listed((*EFFORTS, 'true', 'false'))}")
