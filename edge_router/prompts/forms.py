"""The forms in which a conversation can be put to a chat template, the most faithful first.

No two families of templates take the same conversations: some know tool calls, some refuse a system message,
many want user and assistant in turns with the user first. So there is a row of forms, each with less
structure than the one before, and all with every word that was said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_router.chat.message import Message, Part, Reasoning, ToolCall, ToolResult, text_of
from edge_router.chat.request import Tool
from edge_router.parsing import strict_json
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.prompts.template import MarkEscaper

Turn = Mapping[str, Any]  # a message as transformers gives it to templates

_ROLES = {"developer": "system"}
_GREETING = "Hello."  # said by a user who has said nothing, where a template takes no empty words


def conversation(messages: Iterable[Message], guard: MarkEscaper) -> list[Turn]:
    """Messages as transformers has them: arguments of calls as objects, results with their tool's name."""
    turns: list[Turn] = []
    names: dict[str, str] = {}  # of the tools by the ids of their calls
    for message in messages:
        names |= {call.id: call.name for call in message.calls}
        turns += (_result_turn(result, names, guard) for result in message.results)
        said = tuple(part for part in message.parts if not isinstance(part, ToolResult))
        if said or not message.results:
            turns.append(_turn(message, said, guard))
    return turns


def _turn(message: Message, said: tuple[Part, ...], guard: MarkEscaper) -> Turn:
    role = _ROLES.get(message.role, message.role)
    if role != "assistant":
        return {"role": role, "content": guard(text_of(said))}
    turn: dict[str, Any] = {"role": role, "content": guard(text_of(said), own=True)}
    if message.calls:
        turn["tool_calls"] = [_call(call, guard) for call in message.calls]
    thoughts = [part for part in said if isinstance(part, Reasoning) and part.text]
    if thoughts:  # one endpoint's: by two names they would be told twice
        same = [part.text for part in thoughts if part.label == thoughts[0].label]
        turn["reasoning_content"] = guard("\n".join(same), own=True)
    return turn


def _result_turn(result: ToolResult, names: Mapping[str, str], guard: MarkEscaper) -> Turn:
    turn: dict[str, Any] = {"role": "tool", "content": guard(result.text)}
    name = result.name or names.get(result.call_id)
    given = {"tool_call_id": result.call_id, "name": name}
    return turn | {key: guard(value) for key, value in given.items() if value}


def told(messages: Iterable[Message], guard: MarkEscaper) -> list[Turn]:
    """The same with all that is said in texts, calls of tools included."""
    return [_told(turn) for turn in conversation(messages, guard)]


def forms(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    """Each form once: as it is; calls one by one; the system's words as the user's; calls as text; user and
    assistant in turns; content in parts.
    """
    texts = [_told(turn) for turn in turns]
    rows: list[Sequence[Turn]] = [*with_calls(turns), *with_calls(_headed(turns)), texts]
    rows += [_folded(texts, system=True), _folded(texts, system=False)]
    rows += [_folded(texts, system=system, greeting=_GREETING) for system in (True, False)]
    rows += [[_in_parts(turn) for turn in row] for row in (texts, _folded(texts, system=True))]
    seen: list[list[Turn]] = []
    for row in map(list, rows):
        if row not in seen:
            seen.append(row)
            yield row


def with_calls(turns: Sequence[Turn]) -> list[Sequence[Turn]]:
    """The forms in which calls are calls, and not told in the text."""
    rows: list[Sequence[Turn]] = [turns, _one_by_one(turns)]
    rows += [[_silent(turn) for turn in turns], [_silent(_worded(turn)) for turn in turns]]
    return [*rows, [_worded(turn) for turn in turns]]


def size_of(turn: Turn) -> int:
    """Characters of everything that is said in it, generously."""
    if set(turn) == {"role", "content"} and isinstance(turn["content"], str):
        return len(turn["content"])
    return len(json.dumps(turn, ensure_ascii=False, default=str))


# ---- shapes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a turn but its words."""

    role: str
    calls: int
    keys: tuple[str, ...]
    parts: bool
    silent: bool
    absent: bool  # no content at all, not even an empty one
    worded: bool  # arguments of calls are texts


def shape_of(turns: Sequence[Turn]) -> tuple[Shape, ...]:
    """Of a conversation; user and assistant in turns are the same shape however long they go on."""
    shapes = [
        Shape(
            turn["role"],
            len(turn.get("tool_calls", ())),
            tuple(turn),
            isinstance(turn["content"], list),
            not turn["content"],
            turn["content"] is None,
            any(isinstance(call["function"]["arguments"], str) for call in turn.get("tool_calls", ())),
        )
        for turn in turns
    ]
    while len(shapes) > 5 and shapes[-1] == shapes[-3] == shapes[-5] and shapes[-2] == shapes[-4]:
        del shapes[-2:]
    return tuple(shapes)


def marked_like(shape: Sequence[Shape]) -> tuple[list[str], list[Turn]]:
    """A conversation of that shape in made-up words, and those that were said in it."""
    words: list[str] = []
    turns: list[Turn] = []

    def word() -> str:
        words.append(f"qzj{len(words):05d}jzq")
        return words[-1]

    for number, kind in enumerate(shape):
        content: Any = None if kind.absent else "" if kind.silent else word()
        turn: dict[str, Any] = {"role": kind.role, "content": content}
        if kind.parts:
            turn["content"] = [{"type": "text", "text": content}]
        if kind.calls:
            turn["tool_calls"] = [
                _made_call(f"call{number:03d}{i:02d}", word(), word(), worded=kind.worded)
                for i in range(kind.calls)
            ]
        turn |= {key: f"call{number:05d}" for key in kind.keys if key not in turn}
        turns.append(turn)
    return words, turns


def _made_call(identifier: str, name: str, said: str, *, worded: bool) -> Turn:
    arguments = f'{{"value": "{said}"}}' if worded else {"value": said}
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


# ---- forms -------------------------------------------------------------------------------------------------


def _one_by_one(turns: Sequence[Turn]) -> list[Turn]:
    """Each call in a turn of its own with its result behind it, under an id of nine letters and digits."""
    results = [(place, turn) for place, turn in enumerate(turns) if turn["role"] == "tool"]
    found: list[Turn] = []
    placed: set[int] = set()
    for place, turn in enumerate(turns):
        calls = turn.get("tool_calls", ())
        if not calls and place not in placed:
            found.append(_renamed(turn))
        for number, call in enumerate(calls):
            said = turn if number == 0 else {**turn, "content": ""}
            found.append({**said, "tool_calls": [{**call, "id": _short_id(call["id"])}]})
            behind = (
                where for where, result in results
                if where > place and where not in placed and result.get("tool_call_id") == call["id"]
            )  # fmt: skip
            if len(calls) > 1 and (first := next(behind, None)) is not None:  # several may share an id
                found.append(_renamed(turns[first]))
                placed.add(first)
    return found


def _renamed(turn: Turn) -> Turn:
    given = turn.get("tool_call_id")
    return turn if given is None else {**turn, "tool_call_id": _short_id(given)}


def _short_id(identifier: str) -> str:
    """What Mistral's templates want: nine letters and digits."""
    if len(identifier) == 9 and identifier.isalnum():
        return identifier
    return hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def _headed(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Where tools were called, what the system said before the user's first words."""
    first = next((place for place, turn in enumerate(turns) if turn["role"] == "user"), None)
    if first is None or not any("tool_calls" in turn for turn in turns):
        return turns
    system = [turn["content"] for turn in turns if turn["role"] == "system"]
    user = {**turns[first], "content": _joined([*system, turns[first]["content"]])}
    told = [user if place == first else turn for place, turn in enumerate(turns)]
    return [turn for turn in told if turn["role"] != "system"]


def _silent(turn: Turn) -> Turn:
    """A call without words as one without content, which is how DeepSeek's templates know it."""
    return {**turn, "content": None} if turn.get("tool_calls") and not turn["content"] else turn


def _worded(turn: Turn) -> Turn:
    """Arguments as the JSON that OpenAI's form has."""
    calls = turn.get("tool_calls", ())
    worded = [{**call, "function": {**call["function"], "arguments": _json(call)}} for call in calls]
    return {**turn, "tool_calls": worded} if calls else turn


def _json(call: Turn) -> str:
    stated = call["function"]["arguments"]
    return stated if isinstance(stated, str) else json.dumps(stated, ensure_ascii=False)


def _told(turn: Turn) -> Turn:
    """Calls as part of what the assistant said, for templates that know none."""
    calls = [json.dumps(_plain_call(call), ensure_ascii=False) for call in turn.get("tool_calls", ())]
    if not calls:
        return turn
    rest = {key: value for key, value in turn.items() if key != "tool_calls"}
    return {**rest, "content": _joined([turn["content"], "\n".join(calls)])}


def _plain_call(call: Turn) -> Turn:
    function: Turn = call["function"]
    return {"name": function["name"], "arguments": function["arguments"]}


def _folded(turns: Sequence[Turn], *, system: bool, greeting: str = "") -> list[Turn]:
    """User and assistant in turns, the user first: what else was said stands before the user's next words.

    With `system` what the system said comes first, in one turn of its own.
    """
    ordered = [turn for turn in turns if turn["role"] == "system"] if system else []
    head = [{"role": "system", "content": _joined(turn["content"] for turn in ordered)}] if ordered else []
    folded: list[dict[str, Any]] = []
    for turn in turns:
        if system and turn["role"] == "system":
            continue
        role = turn["role"] if turn["role"] == "assistant" else "user"
        text = _result(turn) if turn["role"] == "tool" else turn["content"]
        if not folded and role == "assistant":
            folded.append({"role": "user", "content": greeting})
        if folded and folded[-1]["role"] == role:
            folded[-1]["content"] = _joined([folded[-1]["content"], text])
        else:
            folded.append({"role": role, "content": text})
    if not folded:
        folded.append({"role": "user", "content": ""})
    for turn in folded:
        turn["content"] = turn["content"] or (greeting if turn["role"] == "user" else "")
    return [*head, *folded]


def _result(turn: Turn) -> str:
    name = turn.get("name")
    return f"Result of {name}: {turn['content']}" if name else str(turn["content"])


def _in_parts(turn: Turn) -> Turn:
    """As templates of models that also see want it."""
    return {**turn, "content": [{"type": "text", "text": turn["content"]}]}


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text)


# ---- tools -------------------------------------------------------------------------------------------------


FREE_TEXT = "input"  # the one argument by which a local model gives a free tool its text


def free_parameters(pattern: str | None = None) -> Mapping[str, object]:
    """Those by which a free tool gets its text, which fits `pattern`, if any."""
    text = {"type": "string"} | ({} if pattern is None else {"pattern": pattern})
    return {"type": "object", "properties": {FREE_TEXT: text}, "required": [FREE_TEXT]}


def parameters_of(tool: Tool) -> Mapping[str, object]:
    """The schema of the arguments with which a local model calls it."""
    if tool.free:
        return free_parameters()
    return tool.parameters or {"type": "object", "properties": {}}


def is_text(schema: object) -> bool:
    """Whether a value of a schema is a text whatever it looks like."""
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def declared(tools: Iterable[Tool], guard: MarkEscaper) -> list[Turn]:
    """Tools as transformers has them."""
    return [{"type": "function", "function": _function(tool, guard)} for tool in tools]


def _function(tool: Tool, guard: MarkEscaper) -> dict[str, object]:
    parameters = _guarded(parameters_of(tool), guard)
    return {"name": guard(tool.name), "description": guard(tool.description), "parameters": parameters}


def within_system(turns: Sequence[Turn], tools: Sequence[Turn]) -> list[Turn]:
    """`turns` whose system message has the tools, where Phi 4's template looks for them."""
    described = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    first = next((turn for turn in turns if turn["role"] == "system"), None)
    if first is None:
        return [{"role": "system", "content": "", "tools": described}, *turns]
    return [{**turn, "tools": described} if turn is first else turn for turn in turns]


def _call(call: ToolCall, guard: MarkEscaper) -> Turn:
    said = {FREE_TEXT: guard(call.arguments)} if call.free else _arguments(call.arguments, guard)
    function = {"name": guard(call.name), "arguments": said}
    return {"id": guard(call.id), "type": "function", "function": function}


def _arguments(stated: str, guard: MarkEscaper) -> object:
    """As an object, which templates expect; what is no JSON stays a text."""
    try:
        found = strict_json.parse(stated) if stated.strip() else {}
        return _guarded({} if found is None else found, guard)
    except strict_json.NotJson:
        return guard(stated)


def _guarded(value: object, guard: MarkEscaper) -> object:
    if isinstance(value, str):
        return guard(value)
    if isinstance(value, Mapping):
        return {guard(str(key)): _guarded(item, guard) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_guarded(item, guard) for item in value]
    return value
