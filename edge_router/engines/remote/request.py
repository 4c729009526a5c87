"""A request in OpenAI's form, as JSON. Pure."""

from __future__ import annotations

from dataclasses import replace

from edge_router.chat.message import without_extra
from edge_router.chat.request import ChatRequest, HostedTool, Tool
from edge_router.engines.remote.terms import LENGTHS, NO_TERMS, Terms
from edge_router.surfaces.openai.messages import written_messages
from edge_router.surfaces.openai.output import written_output
from edge_router.surfaces.openai.parse import PROTOCOL
from edge_router.surfaces.openai.reasoning import written_reasoning
from edge_router.surfaces.openai.tools import written_tools

# Fields of others may not replace ours, nor reach a proxy that takes addresses or keys from bodies.
RESERVED = frozenset(
    {"model", "messages", "prompt", "suffix", "stream", "stream_options", "n", "best_of", "echo"}
    | {"base_url", "api_base", "api_key", "api_type", "api_version", "organization", "endpoint", "headers"}
    | {"extra_headers", "extra_query", "extra_body", "timeout", "custom_llm_provider", "user_config"}
)


def request_body(
    request: ChatRequest, model: str, terms: Terms = NO_TERMS, *, newer: bool = False
) -> dict[str, object]:
    """The JSON of a streaming request, on the `terms` of the endpoint.

    `newer`: the endpoint prefers `max_completion_tokens`, OpenAI's name since its reasoning models, to
    `max_tokens`, which everybody else knows.
    """
    sampling = request.sampling
    chat = request.raw_prompt is None
    names = reversed(LENGTHS) if newer else LENGTHS
    tokens_field = next((name for name in names if name not in terms.left_out), None) if chat else LENGTHS[0]
    optional: dict[str, object] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty or None,
        "frequency_penalty": sampling.frequency_penalty or None,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()} or None,
        "stop": list(request.stop) or None,
        "stream_options": {"include_usage": True},
    }
    if tokens_field is not None:
        optional[tokens_field] = request.max_tokens
    if request.logprobs:
        optional |= (
            {"logprobs": True, "top_logprobs": request.top_logprobs or None}
            if chat
            else {"logprobs": request.top_logprobs}
        )
    body = _beside(request)
    body |= {name: v for name, v in optional.items() if v is not None}
    body |= {"model": model, "stream": True}
    if chat:
        ours = request.extra.protocol in ("", PROTOCOL)
        body["messages"] = written_messages(request.messages if ours else without_extra(request.messages))
    else:
        body["prompt"] = request.raw_prompt
        if request.suffix is not None:
            body["suffix"] = request.suffix
    return terms.fitted(body)


def _beside(request: ChatRequest) -> dict[str, object]:
    """What an endpoint may do beside writing text, and fields of OpenAI's protocol that have no name here."""
    if request.extra.protocol == PROTOCOL:
        passed = {k: v for k, v in request.extra.fields.items() if k not in RESERVED}
        tools = written_tools(request.tools, request.tool_choice, passed)
    else:
        passed = written_reasoning(request.reasoning)
        tools = written_tools(_bare(request.tools), request.tool_choice)
    return {**passed, **tools, **written_output(request.output)}


def _bare(tools: tuple[Tool | HostedTool, ...]) -> tuple[Tool | HostedTool, ...]:
    """Those of another protocol, without what it wrote beside; its endpoint's own are left there."""
    return tuple(replace(tool, extra={}) for tool in tools if isinstance(tool, Tool)) or tools
