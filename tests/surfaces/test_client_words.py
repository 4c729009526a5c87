"""Every word that a client's own types allow is taken: they grow, and what is new must be let in here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest

from edge_router.surfaces.anthropic.surface import AnthropicMessages
from edge_router.surfaces.openai.surface import OpenAIChat
from edge_router.surfaces.responses.surface import OpenAIResponses

pytestmark = pytest.mark.integration  # the types of two clients take seconds to load
Body = dict[str, Any]
HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "name": "f"}


def words(kind: Any, name: str = "") -> list[str]:
    """Of a type of words, or of the field `name`."""
    if name:
        fields = getattr(kind, "model_fields", None)
        kind = fields[name].annotation if fields else get_type_hints(kind)[name]
    inner = (words(part) if get_args(part) else [part] for part in get_args(kind))
    return [word for part in inner for word in part if isinstance(word, str)]


def chat(body: Body) -> object:
    return OpenAIChat().parse("/v1/chat/completions", {"messages": HI, **body})


def response(body: Body) -> object:
    return OpenAIResponses().parse("/v1/responses", {"input": "hi", **body})


def message(body: Body) -> object:
    return AnthropicMessages().parse("/v1/messages", {"messages": HI, "max_tokens": 9, **body})


def test_every_word_is_taken() -> None:
    # Here, for they take seconds, which who only collects tests need not wait for.
    from anthropic.types.beta import BetaOutputConfigParam, BetaThinkingConfigAdaptiveParam
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase
    from openai.types.responses import ResponseIncludable, ResponseTextConfig, ToolChoiceOptions
    from openai.types.responses.response_create_params import ResponseCreateParamsBase
    from openai.types.shared import Reasoning, ReasoningEffort

    rows: list[tuple[Callable[[Body], object], list[str], Callable[[str], Body]]] = [
        (chat, words(ReasoningEffort), lambda word: {"reasoning_effort": word}),
        (chat, words(CompletionCreateParamsBase, "verbosity"), lambda word: {"verbosity": word}),
        (chat, words(CompletionCreateParamsBase, "modalities"), lambda word: {"modalities": [word]}),
        (response, words(ReasoningEffort), lambda word: {"reasoning": {"effort": word}}),
        (response, words(Reasoning, "summary"), lambda word: {"reasoning": {"summary": word}}),
        (response, words(ResponseIncludable), lambda word: {"include": [word]}),
        (response, words(ResponseTextConfig, "verbosity"), lambda word: {"text": {"verbosity": word}}),
        (response, words(ResponseCreateParamsBase, "truncation"), lambda word: {"truncation": word}),
        (response, words(ToolChoiceOptions), lambda word: {"tool_choice": word, "tools": [TOOL]}),
        (message, words(BetaOutputConfigParam, "effort"), lambda word: {"output_config": {"effort": word}}),
        (message, words(BetaThinkingConfigAdaptiveParam, "display"), lambda word: {
            "thinking": {"type": "adaptive", "display": word}}),
    ]  # fmt: skip
    for parse, known, body in rows:
        assert len(known) > 1, (parse.__name__, known)
        for word in known:
            assert parse(body(word)), (parse.__name__, word)
