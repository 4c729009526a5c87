"""Bodies of /v1/decisions, made `ChatRequest`s. Pure. Each refusal is an `InvalidRequest` with its field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import Fields, fields_at, listed, plain_object
from edge_router.questions.checking import ProtocolWords, check, check_count
from edge_router.questions.inquiry import state_text
from edge_router.questions.question import Choice, Level, Option, Question, Scale, YesNo
from edge_router.surfaces.decisions.fields import QUESTIONS, frame, question_fields, request_of
from edge_router.surfaces.responses.items import ItemReader
from edge_router.surfaces.responses.tools import Tools

PROTOCOL = "openai-decisions"  # of `Extra`
MOST_ITEMS = 10_000
JSON_LEVELS, JSON_VALUES, JSON_BYTES = 32, 10_000, 256 * 1024  # of one input_json
LONGEST_NAME = 256
_PASSED = ("prompt_cache_key", "prompt_cache_options", "safety_identifier")
_NAMES = ("type", "name", "instructions", "choices", "levels")
_WORDS = ProtocolWords(options="choices", value="value", levels="levels", label="label", fewest_options=2)


def parse(body: Mapping[str, object]) -> ChatRequest:
    layer = plain_object(body)
    if "input" in layer:
        layer["input"] = _worded(layer["input"])
    fields, private = frame(layer, ("input", *_PASSED), ())
    return request_of(
        fields,
        _messages(fields.get("input")),
        [*_questions(fields.get(QUESTIONS))],
        state="input",
        protocol=PROTOCOL,
        private=private,
        read=("input",),
    )


def _messages(value: object) -> Sequence[Message]:
    if isinstance(value, str):
        if not value.strip():
            raise InvalidRequest("input", "must not be empty")
        return [Message("user", value)]
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_ITEMS:
        raise InvalidRequest("input", f"must be a string or a list of 1 to {MOST_ITEMS} items")
    reader = ItemReader(Tools(), lambda id: None)
    reader.read(value, "input")
    reader.end()
    return reader.messages


def _worded(value: object) -> object:
    """`input` with the text of what is given as JSON."""
    if not isinstance(value, list):
        return value
    return [_worded_item(item, f"input[{index}]") for index, item in enumerate(value)]


def _worded_item(item: object, where: str) -> object:
    if not isinstance(item, dict):
        return item
    return {
        name: [_worded_part(part, f"{where}.{name}[{index}]") for index, part in enumerate(inner)]
        if name in ("content", "output") and isinstance(inner, list)
        else inner
        for name, inner in item.items()
    }


def _worded_part(part: object, where: str) -> object:
    if not isinstance(part, dict) or part.get("type") != "input_json":
        return part
    if "data" not in part:
        raise InvalidRequest(f"{where}.data", "is missing")
    data = part["data"]
    text = state_text(data)
    for found, most, what in (
        (len(text.encode()), JSON_BYTES, "bytes"),
        (sum(1 for _ in _values(data)), JSON_VALUES, "values"),
        (_depth(data), JSON_LEVELS, "levels"),
    ):
        if found > most:
            raise InvalidRequest(f"{where}.data", f"holds {found} {what}, at most {most} are taken")
    return {"type": "input_text", "text": text}


def _values(value: object) -> Iterator[object]:
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _values(each)


def _depth(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _questions(value: object) -> Iterator[Question]:
    if not isinstance(value, list):
        raise InvalidRequest(QUESTIONS, "must be a list of questions")
    check_count(len(value))
    for index, stated in enumerate(value):
        where = f"{QUESTIONS}[{index}]"
        fields = question_fields(stated, where, *_NAMES)
        kind = fields.get("type")
        read = _TYPES.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise fields.refuse("type", f"must be {listed(tuple(_TYPES))}")
        name = fields.text("name")
        if name is not None and len(name) > LONGEST_NAME:
            raise fields.refuse("name", f"has more than {LONGEST_NAME} characters")
        question = read(name, fields.text("instructions") or "", fields)
        check(question, where, _WORDS)
        yield question


def _predicate(name: str | None, instructions: str, stated: Fields) -> Question:
    return YesNo(name, instructions)


def _choice(name: str | None, instructions: str, stated: Fields) -> Question:
    return Choice(name, instructions, tuple(_options(stated)))


def _options(stated: Fields) -> Iterator[Option]:
    for each in _listed(stated, "choices"):
        value = each.get("value")
        if not isinstance(value, str | bool):
            raise each.refuse("value", "must be a string, true or false")
        yield Option(value, each.text("description"))


def _score(name: str | None, instructions: str, stated: Fields) -> Question:
    levels = (
        Level(each.needed_text("label"), each.text("description")) for each in _listed(stated, "levels")
    )
    return Scale(name, instructions, tuple(levels))


def _listed(stated: Fields, name: str) -> Iterator[Fields]:
    value = stated.get(name)
    if not isinstance(value, list):
        raise stated.refuse(name, "must be a list")
    for index, each in enumerate(value):
        yield fields_at(each, f"{stated.within}.{name}[{index}]")


_TYPES: Mapping[str, Callable[[str | None, str, Fields], Question]] = {
    "predicate": _predicate,
    "choice": _choice,
    "score": _score,
}
