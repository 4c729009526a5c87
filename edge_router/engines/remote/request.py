"""A request in OpenAI's form, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set

from edge_router.types import ChatRequest

# Extra fields may not replace ours, nor reach a proxy that takes addresses or keys from bodies.
RESERVED = frozenset(
    {"model", "messages", "prompt", "stream", "stream_options", "n", "best_of", "echo"}
    | {"base_url", "api_base", "api_key", "api_type", "api_version", "organization", "endpoint", "headers"}
    | {"extra_headers", "extra_query", "extra_body", "timeout", "custom_llm_provider", "user_config"}
)
# Fields an endpoint may not know, without which, or under another name, the request means the same.
TOKEN_FIELDS = ("max_tokens", "max_completion_tokens")
OPTIONAL = ("stream_options", *TOKEN_FIELDS, "top_k", "repetition_penalty")
_UNKNOWN_WORDS = (
    "unsupported",
    "not supported",
    "unrecognized",
    "unknown",
    "extra",
    "not permitted",
    "unexpected",
)


def request_body(
    request: ChatRequest, model: str, *, refused: Set[str] = frozenset(), newer: bool = False
) -> dict[str, object]:
    """The JSON of a streaming request. `refused` are fields of `OPTIONAL` that the endpoint does not take.

    `newer`: the endpoint prefers `max_completion_tokens`, OpenAI's name since its reasoning models, to
    `max_tokens`, which everybody else knows.
    """
    sampling = request.sampling
    chat = request.raw_prompt is None
    names = reversed(TOKEN_FIELDS) if newer else TOKEN_FIELDS
    tokens_field = next((name for name in names if name not in refused), None) if chat else "max_tokens"
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
    body |= {name: v for name, v in optional.items() if v is not None and name not in refused}
    body |= {"model": model, "stream": True}
    if chat:
        body["messages"] = [message.to_openai() for message in request.messages]
    else:
        body["prompt"] = request.raw_prompt
    return body


def refused_field(body: Mapping[str, object], complaint: str, refused: Set[str]) -> str | None:
    """The field of `OPTIONAL` that an HTTP 400 or 422 with this text would have us leave out.

    A limit on the length is never left out, only sent under its other name.
    """
    text = complaint.lower()
    if not any(word in text for word in _UNKNOWN_WORDS):
        return None
    final = TOKEN_FIELDS if "prompt" in body or refused & set(TOKEN_FIELDS) else ()
    return next((name for name in OPTIONAL if name in body and name in text and name not in final), None)
