"""What the child is asked for a request, in MLC's types."""

from __future__ import annotations

from edge_router.engines.base import Prompt
from edge_router.errors import ContextOverflow, InvalidRequest, UnsupportedRequest

MOST_LOGPROBS = 5  # MLC's limit where a prompt is given as tokens


def call_for(
    prepared: Prompt, model_id: str, context: int, vocab_size: int, *, sorted_here: bool
) -> dict[str, object]:
    """Which of MLC's two interfaces, and its arguments; those left out are as the model's own config.

    Tokens from `vocab_size` on stay here: MLC looks their weights up where there are none, and writes there.
    `sorted_here`: stop strings are looked for on this side, in the text without the thoughts. Raises
    `InvalidRequest`, `ContextOverflow`.
    """
    request, prompt = prepared.request, prepared.tokens
    sampling = request.sampling
    room = None if prompt is None else context - len(prompt)
    if prompt is not None and not prompt:
        raise InvalidRequest("messages", "the prompt is empty")
    if prompt is not None and room is not None and room < 1:
        raise ContextOverflow(len(prompt), context)
    if prompt is not None and max(prompt) >= vocab_size:  # such as a mark of pictures
        raise InvalidRequest("messages", f"holds tokens that {model_id} has no weights for")
    bias = {str(token): bias for token, bias in sampling.logit_bias.items() if 0 <= token < vocab_size}
    plain = 0.0 if sampling.temperature == 0 else None  # whoever wants the likeliest token wants no other
    limits = [limit for limit in (request.max_tokens, room) if limit is not None]
    values: dict[str, object] = {
        "model": model_id,
        "max_tokens": min(limits, default=None),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": None if sampling.seed is None else sampling.seed % 2**31,  # a C int there
        "presence_penalty": plain if sampling.presence_penalty is None else sampling.presence_penalty,
        "frequency_penalty": plain if sampling.frequency_penalty is None else sampling.frequency_penalty,
        "logit_bias": bias or None,
        "stop": None if sorted_here else list(request.stop) or None,
    }
    if prompt is None:
        values["messages"] = [{"role": turn.role, "content": turn.text} for turn in request.messages]
        values |= {"logprobs": True, "top_logprobs": request.top_logprobs} if request.logprobs else {}
    else:
        values["prompt"] = list(prompt)
        values["logprobs"] = request.top_logprobs if request.logprobs else None
        if request.logprobs and request.top_logprobs > MOST_LOGPROBS:
            raise UnsupportedRequest("top_logprobs", f"the engine mlc gives at most {MOST_LOGPROBS}")
    given = {name: value for name, value in values.items() if value is not None}
    return {"chat": prompt is None, "arguments": given}
