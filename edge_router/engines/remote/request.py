"""A request in OpenAI's form, as JSON. Pure."""

from __future__ import annotations

from edge_router.engines.remote.terms import LENGTHS, NO_TERMS, Terms
from edge_router.surfaces.openai_messages import written_messages
from edge_router.types import ChatRequest

# Fields of others may not replace ours, nor reach a proxy that takes addresses or keys from bodies.
RESERVED = frozenset(
    {"model", "messages", "prompt", "stream", "stream_options", "n", "best_of", "echo"}
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
    body: dict[str, object] = {k: v for k, v in request.passthrough.items() if k not in RESERVED}
    body |= {name: v for name, v in optional.items() if v is not None}
    body |= {"model": model, "stream": True}
    if chat:
        body["messages"] = written_messages(request.messages)
    else:
        body["prompt"] = request.raw_prompt
    return terms.fitted(body)
