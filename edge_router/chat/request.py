"""One query, already validated: what routers score and engines answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from edge_router.chat.events import Answering
from edge_router.chat.message import Audio, File, Foreign, Image, Message, Part, ToolResult
from edge_router.records import dataclass

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_router.questions.question import Question


class Need(StrEnum):
    """What an answer takes beyond plain text; engines say which of them they serve."""

    TOOLS = "tools"  # tools may be called
    TOOL_CALL = "tool_call"  # one must be: plain text is no answer
    # Tools that the endpoint itself has, such as a search. Agents offer them beside their own with every
    # request: who has none leaves them out then, and they are needed where nothing else may be called.
    HOSTED_TOOLS = "hosted_tools"
    IMAGES = "images"
    AUDIO = "audio"
    FILES = "files"
    SPEECH = "speech"  # an answer that is heard
    JSON = "json"  # an answer held to JSON or to a schema
    GRAMMAR = "grammar"
    SUFFIX = "suffix"  # text between two others
    LOGPROBS = "logprobs"
    MASK = "mask"  # token by token, by the caller
    QUESTIONS = "questions"  # probabilities that answer typed questions, in place of words
    FOREIGN = "foreign"  # parts or forms that only their own protocol knows


MEDIA_NEEDS = frozenset({Need.IMAGES, Need.AUDIO, Need.FILES})
# What no endpoint can be held to, for none is told of it.
LOCAL_NEEDS = frozenset({Need.MASK, Need.GRAMMAR})
# Without these, text that only looks like an answer would be shown as one.
FORM_NEEDS = frozenset({Need.TOOL_CALL, Need.JSON, Need.GRAMMAR})


@dataclass(frozen=True, slots=True)
class GrammarOutput:
    """An answer, or what a free tool takes, held to a grammar."""

    syntax: Literal["lark", "regex"]
    source: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called. `parameters` is a JSON schema; None takes no arguments.

    `strict`: arguments must fit it. A `free` tool takes any text, held to `form` where there is one.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, object] | None = None
    strict: bool | None = None
    free: bool = False
    form: GrammarOutput | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostedTool:
    """A tool that its endpoint runs, such as a search, in the words of its protocol."""

    kind: str
    body: Mapping[str, object]

    @property
    def name(self) -> str:
        """What a `ToolChoice` calls it."""
        return self.kind


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether and which tools may be called. No `names`: any of them. `parallel` None: as the model likes."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()
    parallel: bool | None = None


@dataclass(frozen=True, slots=True)
class TextOutput:
    """An answer in plain words."""


@dataclass(frozen=True, slots=True)
class JsonOutput:
    """An answer that is one JSON value, of `schema` where there is one ({} is any), else an object."""

    schema: Mapping[str, object] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ForeignOutput:
    """A form of answer that only its own protocol knows. Without a body it is told by fields in `extra`."""

    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class QuestionsOutput:
    """No words, but an answer to each of these; the messages are the state that they are about.

    `cuts`: a state that is too long loses its middle, instead of being refused.
    """

    questions: tuple[Question, ...]
    cuts: bool = False


Output: TypeAlias = TextOutput | JsonOutput | GrammarOutput | QuestionsOutput | ForeignOutput


@dataclass(frozen=True, slots=True)
class ReasoningOptions:
    """Whether to think before the answer, and how much. None: as the model does by itself.

    `effort` is the protocols' word (minimal, low, medium, high, ...); `max_tokens` bounds the thoughts;
    `shown` False: they are wanted, but not to be sent.
    """

    enabled: bool | None = None
    effort: str | None = None
    max_tokens: int | None = None
    shown: bool = True


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens. `None` means "as the model's own generation config says"."""

    temperature: float | None = None  # 0 is greedy
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignalRequest:
    """What we want to see of an answer's beginning, beside what its reader asked for.

    `tokens`: log probabilities of so many first tokens. `state`: tokens whose logits behind the prompt come
    as an event of their own, before the text. `alone`: the reader wants no log probabilities at all.
    """

    tokens: int = 0
    state: tuple[int, ...] = ()
    alone: bool = True


class TokenMask(Protocol):
    """Which tokens may come next: the hook for constrained decoding. One mask belongs to one answer."""

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """True where a token may come, one entry for each of the vocabulary's; None allows all."""
        ...

    def accept(self, token: int) -> None:
        """`token` was chosen."""
        ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a mask is made for. Any of `end_tokens` ends the answer, so it must allow one of them in the end.

    `size` is the number of tokens, `tokenizer` the model's tokenizer.json.
    """

    size: int
    end_tokens: frozenset[int]
    token_bytes: Callable[[int], bytes]  # what a token stands for; nothing for a control token
    tokenizer: Path


@dataclass(frozen=True, slots=True)
class Extra:
    """Fields of a request that have no name here, passed on to endpoints of the same `protocol` only."""

    protocol: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResponseCacheWish:
    """Whether an answer may be one that was given before (`read`), not older than `max_age_s`, and be kept
    (`write`). `use`: also one that was drawn at random or calls tools, whatever the settings say."""

    read: bool = True
    write: bool = True
    use: bool = False
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One query. `target` is the model's name as the caller wrote it: auto, weak, strong, an id, ..."""

    messages: tuple[Message, ...]
    target: str = "auto"
    alternatives: tuple[str, ...] = ()  # whom to ask, in this order, where `target` cannot answer now
    lesser: tuple[str, ...] = ()  # whom to ask behind those, in need only
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool | HostedTool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    output: Output = TextOutput()
    reasoning: ReasoningOptions = ReasoningOptions()
    private: bool = False  # must not leave the machine
    keep: Literal["cache", "cache_control"] | None = None  # which field says that its beginning may be kept
    logprobs: bool = False
    top_logprobs: int = 0
    continue_final: bool = False  # the last message is the assistant's, and the answer goes on with it
    raw_prompt: str | None = None  # a text to go on with, without a chat template; `messages` holds it too
    suffix: str | None = None  # the answer is what stands between `raw_prompt` and this
    spoken: bool = False  # the answer is to be heard
    session: str | None = None
    program: str | None = None  # that asks, as it calls itself
    among: tuple[str, ...] = ()  # the only strong models, endpoints or tags that may answer; (): any
    caller: str | None = None  # whose key it came with, by its name in the configuration
    response_cache: ResponseCacheWish = ResponseCacheWish()
    reader: Answering | None = None  # of several strong models, the one that has read the conversation so far
    extra: Extra = Extra()
    mask: Callable[[Vocabulary], TokenMask] | None = field(default=None, compare=False)  # local models only
    signals: SignalRequest | None = None  # an engine may leave `state` out
    # What its caller's protocol calls that which it needs, for errors.
    names: Mapping[Need, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def callable_tools(self) -> tuple[Tool | HostedTool, ...]:
        """Those that may be called."""
        choice = self.tool_choice
        if choice.mode == "none":
            return ()
        if not choice.names:
            return self.tools
        return tuple(tool for tool in self.tools if tool.name in choice.names)

    @property
    def needs(self) -> frozenset[Need]:
        """Beyond plain text, what would be left out by a model that can't serve it."""
        found = {need for message in self.messages for need in _needs_of(message.parts)}
        tools = self.callable_tools
        if tools:
            found.add(Need.TOOLS)
        if tools and all(isinstance(tool, HostedTool) for tool in tools):
            found.add(Need.HOSTED_TOOLS)
        if tools and self.tool_choice.mode == "required":
            found.add(Need.TOOL_CALL)
        found |= _OUTPUT_NEEDS[type(self.output)]
        for wanted, need in (
            (self.spoken, Need.SPEECH),
            (self.suffix is not None, Need.SUFFIX),
            (self.logprobs, Need.LOGPROBS),
            (self.mask is not None, Need.MASK),
        ):
            if wanted:
                found.add(need)
        return frozenset(found)

    def name_of(self, need: Need) -> str:
        """The field that `need` comes from, in the words of the caller's protocol."""
        if need in MEDIA_NEEDS or (need is Need.FOREIGN and not isinstance(self.output, ForeignOutput)):
            return self.names.get(Need.FILES, "messages")  # where what messages are made of stands
        return self.names.get(need, str(need))


_OUTPUT_NEEDS: Mapping[type, frozenset[Need]] = {
    TextOutput: frozenset(),
    JsonOutput: frozenset({Need.JSON}),
    GrammarOutput: frozenset({Need.GRAMMAR}),
    QuestionsOutput: frozenset({Need.QUESTIONS}),
    ForeignOutput: frozenset({Need.FOREIGN}),
}
_PART_NEEDS: Mapping[type, Need] = {
    Image: Need.IMAGES,
    Audio: Need.AUDIO,
    File: Need.FILES,
    Foreign: Need.FOREIGN,
}


def _needs_of(parts: tuple[Part, ...]) -> set[Need]:
    found: set[Need] = set()
    for part in parts:
        if isinstance(part, ToolResult):
            found |= _needs_of(part.parts)
        elif type(part) in _PART_NEEDS:
            found.add(_PART_NEEDS[type(part)])
    return found
