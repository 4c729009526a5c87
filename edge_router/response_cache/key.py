"""What has to be the same for an answer to be given again, and which requests have such an answer at all.

The key is a hash of:

- the caller, by whose key the request came: nobody gets what another one asked for;
- all of the request that reaches a model: messages with their names and fields, sampling, limits, stops,
  tools, form, thoughts, words that are gone on with, fields for an endpoint. A new field of `ChatRequest` is
  part of it unless `_ELSEWHERE` says otherwise;
- who is asked: the weak model; the strong one, by the name that was written or that a rule names, which
  chooses among endpoints; or a router, by its name;
- what rules and the guard said: `local_only`, what is hidden, what must stay here. Another set of rules makes
  other answers. A rule that blocks has raised before anybody looks here.

Not part of it, and looked at when an answer is found (`control/lookup.py`):

- the threshold and the score: the policy decides anew, with the score that was kept. An answer of the weak
  model serves only where that would answer now; one of the strong model always, for it is no worse and costs
  nothing; of several (`tiers`) where the same one would answer, or the weak model. So whatever moves
  thresholds (a share, a budget, `offline`, a strong model configured later) is heard, and what one model said
  in place of another is not said again once that works;
- who answered, by its settings and, of the weak model, its weights' fingerprint;
- the age.

Nearly the same question (`similar.py`) has the same key but for the words that hold its last message
together: system prompts, forms, models and all that was said before are the very same there, too.

Who asks, and whether it must stay here (`session`, `program`, `private`), changes what the policy decides,
not what a model says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum

from edge_router.chat.message import MEDIA, Foreign, Part, ToolResult
from edge_router.chat.request import ChatRequest, Extra, Need

# Fields of a request that are no part of the key: looked at by the policy, or by nobody who answers.
_ELSEWHERE = frozenset(
    {
        *("target", "private", "session", "program", "caller", "reader", "response_cache", "keep"),
        *("names", "mask", "signals"),
    }
)
# Fields for an endpoint that change nothing of what it says.
_SAME_ANSWER = frozenset(
    {
        *("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("prompt_cache_options", "client_metadata"),
    }
)
# Answers that are more than their text, or are made of more than what stands in the request.
_NEVER = frozenset({Need.MASK, Need.LOGPROBS, Need.HOSTED_TOOLS, Need.SPEECH, Need.FOREIGN, Need.QUESTIONS})
_MEDIA = frozenset({Need.IMAGES, Need.AUDIO, Need.FILES})


_FIELDS = tuple(each.name for each in fields(ChatRequest) if each.name not in _ELSEWHERE)


def is_kept(request: ChatRequest, *, sampled: bool = False, tools: bool = False) -> bool:
    """Whether its answer may be given again. `sampled`: also one that was drawn at random; `tools`: also one
    that may call tools, or goes on from what they gave back.

    Who asks for more than the settings allow has to say so (`use`); pictures and the like take that.
    """
    wish, needs = request.response_cache, request.needs
    if needs & _NEVER or not (sampled or wish.use or _is_greedy(request)):
        return False
    calls = needs & {Need.TOOLS, Need.TOOL_CALL} or any(message.results for message in request.messages)
    if calls and not (tools or wish.use):
        return False
    return not needs & _MEDIA or (wish.use and all(_is_whole(message.parts) for message in request.messages))


def _is_greedy(request: ChatRequest) -> bool:
    """A request without a temperature has the model's own, which is seldom 0."""
    return request.sampling.temperature == 0 or request.sampling.top_k == 1


def _is_whole(parts: Sequence[Part]) -> bool:
    """Whether pictures and files stand in the request itself, not at an address where they may change."""
    for part in parts:
        if isinstance(part, ToolResult):
            if not _is_whole(part.parts):
                return False
        elif isinstance(part, MEDIA):
            address = getattr(part, "url", "data:")
            if address is None or not address.startswith("data:"):
                return False
        elif isinstance(part, Foreign):
            return False
    return True


def key_of(request: ChatRequest, *facts: object) -> str:
    """`facts`: all that counts beside the request itself."""
    extra = {name: value for name, value in request.extra.fields.items() if name not in _SAME_ANSWER}
    request = replace(request, extra=Extra(request.extra.protocol, extra) if extra else Extra())
    told = {name: getattr(request, name) for name in _FIELDS}
    return digest([request.caller, told, facts])


def digest(value: object) -> str:
    """Of anything that is made of data classes, mappings, lists and plain values."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # protocols write 0 and 0.0 for the same
    if value is None or isinstance(value, str | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        named = {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
        return [type(value).__name__, named]
    return repr(value)
