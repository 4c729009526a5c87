"""What one model at one endpoint was seen not to take, and how a request is mended for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from edge_router.engines.remote.complaints import Complaint, Path
from edge_router.records import dataclass

LENGTHS = ("max_tokens", "max_completion_tokens")  # two names of one limit
# What a request means. Without one of these it would be another request, so they are never left out.
ESSENTIAL = frozenset(
    {"model", "messages", "prompt", "suffix", "tools", "functions", "function_call", "response_format"}
    | {"modalities", "audio", "web_search_options"}
)
ESSENTIAL_IN_MESSAGES = frozenset({"role", "content", "tool_calls", "tool_call_id", "function_call"})
INSTRUCTING = ("system", "developer")  # two names of one role
LEAST_LIMIT = 8  # tokens; smaller numbers in a complaint about many are about something else
MOST_VALUES = 100
LONGEST_KEPT = 100  # characters of a value
LEAST_TEMPERATURE = 0.01  # as good as greedy, where that is refused
Range = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything that is known of what an endpoint refuses. The last two hold for one request only."""

    left_out: frozenset[str] = frozenset()
    left_out_values: frozenset[tuple[str, str]] = frozenset()  # of fields that may well have others
    left_out_of_messages: frozenset[str] = frozenset()
    limits: Mapping[str, Range] = field(default_factory=dict)  # of numbers; of a list's length
    refused_roles: frozenset[str] = frozenset()
    streams: bool = True
    left_out_once: frozenset[str] = frozenset()
    room: int | None = None  # tokens

    def lasting(self) -> Terms:
        """What is true of other requests, too."""
        return replace(self, room=None, left_out_once=frozenset())

    def merged(self, other: Terms) -> Terms:
        return Terms(
            self.left_out | other.left_out,
            frozenset(sorted(self.left_out_values | other.left_out_values)[:MOST_VALUES]),
            self.left_out_of_messages | other.left_out_of_messages,
            {**self.limits, **other.limits},
            self.refused_roles | other.refused_roles,
            self.streams and other.streams,
        )

    def news(self, known: Terms) -> Iterator[str]:
        """What these hold beyond `known`, in words."""
        for name in sorted(self.left_out - known.left_out):
            yield f"{name!r} is left out"
        for name, value in sorted(self.left_out_values - known.left_out_values):
            yield f"{name!r} is left out where it is {value}"
        for name in sorted(self.left_out_of_messages - known.left_out_of_messages):
            yield f"{name!r} is left out of messages"
        for name, bounds in self.limits.items():
            if known.limits.get(name) != bounds:
                yield f"{name!r} is sent within {_shown(bounds)}"
        for role in sorted(self.refused_roles):
            if known.role(role) != self.role(role):
                yield f"the role {role} is sent as {self.role(role)}"
        if known.streams and not self.streams:
            yield "answers come as a whole"

    def fitted(self, body: Mapping[str, object]) -> dict[str, object]:
        """`body` as the endpoint takes it."""
        # Completions know one name of the limit.
        left_out = self.left_out - set(LENGTHS) if "prompt" in body else self.left_out
        fitted = {
            name: self._within(name, value)
            for name, value in body.items()
            if name not in left_out | self.left_out_once
            and (name, _spelled(value)) not in self.left_out_values
        }
        if "logprobs" not in fitted:
            fitted.pop("top_logprobs", None)
        if not self.streams:
            fitted |= {"stream": False}
            fitted.pop("stream_options", None)
        messages = fitted.get("messages")
        if isinstance(messages, list) and (self.refused_roles or self.left_out_of_messages):
            fitted["messages"] = [self._message(message) for message in messages]
        return fitted

    def _within(self, name: str, value: object) -> object:
        low, high = self.limits.get("max_tokens" if name in LENGTHS else name, (None, None))
        if name in LENGTHS and self.room is not None:
            high = min(self.room, self.room if high is None else high)
        if isinstance(value, list):
            return value if high is None else value[: int(high)]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        bounded = value if low is None else max(value, low)
        bounded = bounded if high is None else min(bounded, high)
        return int(bounded) if isinstance(value, int) and bounded == int(bounded) else bounded

    def _message(self, message: Mapping[str, object]) -> dict[str, object]:
        kept = {name: value for name, value in message.items() if name not in self.left_out_of_messages}
        role = kept.get("role")
        return {**kept, "role": self.role(role)} if isinstance(role, str) else kept

    def role(self, role: str) -> str:
        """What it is called there. Who takes neither name of it, takes instructions from a user."""
        if role not in INSTRUCTING or role not in self.refused_roles:
            return role
        return next((name for name in INSTRUCTING if name not in self.refused_roles), "user")

    # ---- learning

    def mended(self, body: Mapping[str, object], complaint: Complaint) -> Terms | None:
        """These and what `complaint`, the answer to `body`, would have us change; None: nothing does."""
        if not complaint.may_be_mended:
            return None
        messages = body.get("messages")
        sent = [each.get("role") for each in messages] if isinstance(messages, list) else []
        roles = complaint.refused_roles(sent).intersection(INSTRUCTING)
        if roles:
            return replace(self, refused_roles=self.refused_roles | roles)
        terms = self
        length = next((name for name in LENGTHS if name in body), None)
        if length is not None and complaint.is_about_prompt_too:
            terms = terms._shorter(length, body, complaint)
        else:
            for path in complaint.named(body):
                terms = terms._without(path, body, complaint)
        return None if terms == self or terms.fitted(body) == dict(body) else terms

    def _without(self, path: Path, body: Mapping[str, object], complaint: Complaint) -> Terms:
        name = path[0]
        if len(path) > 1:
            inner = frozenset(path[1:]) - ESSENTIAL_IN_MESSAGES
            return replace(self, left_out_of_messages=self.left_out_of_messages | inner)
        if name in ESSENTIAL or (name == "tool_choice" and body[name] != "auto"):
            return self
        if name == "stream":
            return self if complaint.wants_stream else replace(self, streams=False)
        if name in LENGTHS:
            return self._shorter(name, body, complaint)
        if complaint.is_about_pair:
            return replace(self, left_out_once=self.left_out_once | {name})
        bounds = _bounds(name, body[name], complaint)
        if bounds is not None:
            return self._limited(name, bounds)
        spelled = _spelled(body[name])
        if complaint.is_about_value and spelled:
            return replace(self, left_out_values=self.left_out_values | {(name, spelled)})
        return replace(self, left_out=self.left_out | {name})

    def _shorter(self, name: str, body: Mapping[str, object], complaint: Complaint) -> Terms:
        """A limit is never left out: it is sent by its other name, or as large as may be."""
        value = body[name]
        asked = value if isinstance(value, int) else 0
        if complaint.is_about_prompt_too:
            room = complaint.room(asked)
            return replace(self, room=room) if 0 < room < asked else self
        numbers = complaint.numbers() if complaint.says_range else ()
        least = 1 if asked < 8 * LEAST_LIMIT else LEAST_LIMIT
        smaller = [number for number in numbers if least <= number < asked]
        larger = [number for number in numbers if number > asked]
        if smaller or larger:
            return self._limited(LENGTHS[0], (None, max(smaller)) if smaller else (min(larger), None))
        if "prompt" in body or self.left_out.intersection(LENGTHS):
            return self
        return replace(self, left_out=self.left_out | {name})

    def _limited(self, name: str, bounds: Range) -> Terms:
        before = self.limits.get(name, (None, None))
        low, high = (old if new is None else new for new, old in zip(bounds, before, strict=True))
        return replace(self, limits={**self.limits, name: (low, high)})


NO_TERMS = Terms()


def refused_field(body: Mapping[str, object], complaint: Complaint) -> str | None:
    """The field that an endpoint does not take, where that is no matter of one prompt's length or content."""
    if not complaint.may_be_mended or complaint.is_about_content or complaint.is_about_prompt_too:
        return None
    paths = complaint.named(body)
    return ".".join(paths[0]) if paths else next(iter(complaint.names), None)


def _spelled(value: object) -> str:
    """A value that is one of several words; nothing for a number, a list, or what is too long to be kept."""
    spelled = repr(value) if isinstance(value, str | bool | dict) else ""
    return spelled if len(spelled) <= LONGEST_KEPT else ""


def _shown(bounds: Range) -> str:
    low, high = ("…" if bound is None else f"{bound:.12g}" for bound in bounds)
    return f"{low} to {high}"


def _bounds(name: str, value: object, complaint: Complaint) -> Range | None:
    """The range that a number, or a list's length, must be in, where the complaint says it."""
    size = len(value) if isinstance(value, list) else value
    if isinstance(size, bool) or not isinstance(size, int | float) or complaint.says_unsupported:
        return None
    if not complaint.says_range:
        return None
    if name == "temperature" and size == 0:
        return LEAST_TEMPERATURE, None
    numbers = complaint.numbers()
    others = [number for number in numbers if number != size]
    if not others or (min(others) < size < max(others)):
        return None
    if size in numbers and len(set(others)) == 1 and complaint.says_ends:  # it is one of the ends
        return None
    if size > max(others):
        return (None, max(others)) if max(others) >= 1 or not isinstance(value, list) else None
    return min(others), None
