"""Whether to think before the answer, in the many words that clients of OpenAI's protocol have for it. Pure.

The fields themselves stay in a request as they came: each endpoint knows its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.chat.request import ReasoningOptions

Fields = Mapping[str, object]
_NONE = "none"  # as an effort
_LEAST = ("minimal",)  # an effort that asks for hardly any thoughts
_OFF, _ON = ("disabled", "off", "false"), ("enabled", "on", "true", "adaptive", "auto")


def read_reasoning(passed: Fields) -> ReasoningOptions:
    """Of a body's fields. Of those that contradict each other the first in this order is believed:
    `reasoning_effort`, `reasoning` (OpenRouter), `chat_template_kwargs` (vLLM, llama.cpp), `thinking`
    (Anthropic), `think` (Ollama), `enable_thinking`.
    """
    reasoning, template = _held(passed, "reasoning"), _held(passed, "chat_template_kwargs")
    thinking = _held(passed, "thinking")
    efforts = (passed.get("reasoning_effort"), reasoning.get("effort"), template.get("reasoning_effort"))
    effort = next((one for one in (*efforts, passed.get("think")) if isinstance(one, str) and one), None)
    switches = (
        *(reasoning.get("enabled"), template.get("enable_thinking"), template.get("thinking")),
        *(thinking.get("type"), passed.get("think"), passed.get("enable_thinking")),
    )
    enabled = next((on for switch in switches if (on := _switch(switch)) is not None), None)
    if effort is not None and _switch(effort) is None:
        enabled = False if effort == _NONE else enabled if effort in _LEAST else True
    budgets = (reasoning.get("max_tokens"), thinking.get("budget_tokens"), passed.get("thinking_budget"))
    budget = next((one for one in budgets if isinstance(one, int) and not isinstance(one, bool)), None)
    if budget == 0 and effort is None:
        enabled = False
    if enabled is None and budget is not None and budget > 0:
        enabled = True
    hidden = reasoning.get("exclude") is True or passed.get("include_reasoning") is False
    return ReasoningOptions(
        enabled,
        None if effort in (None, _NONE) or _switch(effort) is not None else effort,
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


def _held(passed: Fields, name: str) -> Fields:
    value = passed.get(name)
    return value if isinstance(value, Mapping) else {}


def _switch(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return False if value.lower() in _OFF else True if value.lower() in _ON else None
    return None
