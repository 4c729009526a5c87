"""How endpoints of typed questions are asked and what they say: OpenAI's Decisions, TypeSafe's System One.

Questions go by names of ours: the caller's own may be missing, or two alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from edge_router.chat.message import Image, Message, Part, Text, ToolCall, ToolResult, text_of
from edge_router.chat.request import ChatRequest, QuestionsOutput
from edge_router.engines.remote.dialect import Dialect
from edge_router.engines.remote.terms import Terms
from edge_router.parsing import strict_json
from edge_router.questions.answer import normalized
from edge_router.questions.inquiry import Answered, Declined
from edge_router.questions.question import Choice, Question, YesNo
from edge_router.records import dataclass

Body = dict[str, object]
_WHICH, _WHERE, _HOLDS = "Which of these is it?", "Where on this scale is it?", "Does this hold?"


def _questions(request: ChatRequest) -> tuple[Question, ...]:
    assert isinstance(request.output, QuestionsOutput)
    return request.output.questions


def _name(index: int) -> str:
    return f"q{index + 1}"


def _name_in(answer: object) -> object:
    return answer.get("name") if isinstance(answer, Mapping) else None


def _instructions(question: Question) -> str:
    if question.instructions:
        return question.instructions
    return _HOLDS if isinstance(question, YesNo) else _WHICH if isinstance(question, Choice) else _WHERE


@dataclass(frozen=True, slots=True)
class DecisionsDialect:
    """OpenAI's."""

    @property
    def by_line(self) -> bool:
        return False

    @property
    def fetches(self) -> bool:
        return True

    def path(self, body: Mapping[str, object]) -> str:
        return "/decisions"

    def body(self, request: ChatRequest, model: str, terms: Terms) -> Body:
        asked = [_decision(index, question) for index, question in enumerate(_questions(request))]
        return {"model": model, "input": _input(request.messages), "questions": asked}

    def chunk(self, piece: Mapping[str, Any]) -> Mapping[str, Any]:
        return _as_chat(piece, list)

    def read(self, text: str, questions: Sequence[Question]) -> Iterator[Answered | Declined]:
        """The answers, of what `chunk` made: by the names that were sent; by place what has another."""
        answers = strict_json.parse(text, nan=True)
        names = [_name_in(each) for each in answers]
        ours: list[object] = [_name(index) for index in range(len(questions))]
        for index, question in enumerate(questions):
            name = _name(index)
            if name in names:
                yield _read(index, question, answers[names.index(name)], _listed)
            else:
                placed = index < len(answers) and names[index] not in ours
                yield _read(index, question, answers[index] if placed else None, _listed)


@dataclass(frozen=True, slots=True)
class SystemOneDialect:
    """TypeSafe's."""

    @property
    def by_line(self) -> bool:
        return False

    @property
    def fetches(self) -> bool:
        return False

    def path(self, body: Mapping[str, object]) -> str:
        return "/systemone"

    def body(self, request: ChatRequest, model: str, terms: Terms) -> Body:
        assets: dict[str, object] = {}
        state = _state(request.messages, assets)
        asked = {_name(index): _criteria(question) for index, question in enumerate(_questions(request))}
        body: Body = {"state": state, "model": model, "questions": asked}
        return body | ({"assets": assets} if assets else {})

    def chunk(self, piece: Mapping[str, Any]) -> Mapping[str, Any]:
        return _as_chat(piece, dict)

    def read(self, text: str, questions: Sequence[Question]) -> Iterator[Answered | Declined]:
        """The answers, of what `chunk` made."""
        answers = strict_json.parse(text, nan=True)
        for index, question in enumerate(questions):
            yield _read(index, question, answers.get(_name(index)), _labelled)


class QuestionDialect(Dialect, Protocol):
    """One of them."""

    @property
    def fetches(self) -> bool:
        """Whether it takes the address of a picture in its place."""
        ...

    def read(self, text: str, questions: Sequence[Question]) -> Iterator[Answered | Declined]: ...


DIALECTS: Mapping[str, type[QuestionDialect]] = {"decisions": DecisionsDialect, "systemone": SystemOneDialect}


# ---- what is asked -----------------------------------------------------------------------------------------


def _input(messages: Sequence[Message]) -> object:
    if len(messages) == 1 and all(isinstance(part, Text) for part in messages[0].parts):
        return messages[0].text
    called: set[str] = set()
    return [item for message in messages for item in _items(message, called)]


def _items(message: Message, called: set[str]) -> Iterator[Body]:
    """`called`: the calls so far. A result of none of them is what the user shows."""
    said: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult) and part.call_id in called:
            output = [*_contents(part.parts, "input_text")]
            yield {"type": "function_call_output", "call_id": part.call_id, "output": output}
        elif not isinstance(part, ToolCall):
            said += part.parts if isinstance(part, ToolResult) else (part,)
    content = [*_contents(said, "output_text" if message.role == "assistant" else "input_text")]
    if content:
        yield {"type": "message", "role": _role(message), "content": content}
    for call in message.calls:
        called.add(call.id)
        made = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
        yield {"type": "function_call", **made}


def _role(message: Message) -> str:
    return "user" if message.role == "tool" else message.role


def _contents(parts: Sequence[Part], kind: str) -> Iterator[Body]:
    for part in parts:
        if isinstance(part, Image):
            yield {"type": "input_image", "image_url": part.url}
        elif text := text_of([part]):
            yield {"type": kind, "text": text}


def _decision(index: int, question: Question) -> Body:
    asked: Body = {"name": _name(index), "instructions": _instructions(question)}
    if isinstance(question, YesNo):
        when = [asked["instructions"]]
        when += [f"Answer true when: {question.yes}"] * bool(question.yes)
        when += [f"Answer false when: {question.no}"] * bool(question.no)
        return {"type": "predicate", **asked, "instructions": "\n".join(map(str, when))}
    if isinstance(question, Choice):
        options = ((each.value, each.description) for each in question.options)
        return {"type": "choice", **asked, "choices": [_described("value", *each) for each in options]}
    levels = ((each.label, each.description) for each in question.levels)
    return {"type": "score", **asked, "levels": [_described("label", *each) for each in levels]}


def _described(name: str, value: object, description: str | None) -> Body:
    return {name: value} if description is None else {name: value, "description": description}


def _state(messages: Sequence[Message], assets: dict[str, object]) -> object:
    """A text, or the messages as they came; images stand in `assets`, and their names in the text."""
    states = [_stated(message, assets) for message in messages]
    return states[0]["content"] if len(messages) == 1 and not messages[0].calls else states


def _stated(message: Message, assets: dict[str, object]) -> Body:
    stated: Body = {"role": _role(message), "content": _with_names(message, assets)}
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.calls]
    return stated | ({"calls": calls} if calls else {})


def _with_names(message: Message, assets: dict[str, object]) -> str:
    if not message.has_media:
        return message.text
    pieces: list[str] = []
    for part in message.inner:
        if isinstance(part, Image):
            name = f"<image:{len(assets) + 1}>"
            head, _, data = part.url.partition(",")
            form = "jpeg" if "jpeg" in head else "png"
            assets[name] = {"type": "image", "format": form, "data_base64": data}
            pieces.append(name)
        else:
            pieces.append(text_of([part]))
    return "".join(pieces)


def _criteria(question: Question) -> Body:
    if isinstance(question, YesNo):
        criteria = {name: text for name, text in (("true", question.yes), ("false", question.no)) if text}
        asked: Body = {"type": "noul", "instructions": _instructions(question)}
        return asked | ({"criteria": criteria} if criteria else {})
    if isinstance(question, Choice):
        descriptions = (option.description for option in question.options)
        criteria_of = dict(zip(_labels(question), descriptions, strict=True))
        return {"type": "choice", "instructions": _instructions(question), "criteria": criteria_of}
    levels = [
        f"{each.label}: {each.description}" if each.description else each.label for each in question.levels
    ]
    return {"type": "score", "instructions": _instructions(question), "criteria": levels}


def _labels(question: Choice) -> list[str]:
    """Of the options, each another: the text "true" and the truth are written alike there."""
    texts = [option.text for option in question.options]
    return [text if texts.index(text) == at else f"{text} ({at + 1})" for at, text in enumerate(texts)]


# ---- what is answered --------------------------------------------------------------------------------------


def _as_chat(piece: Mapping[str, Any], kind: type) -> Mapping[str, Any]:
    """The answers as the text of a chat's; what has none is left as it is, such as an error."""
    answers, usage = piece.get("answers"), piece.get("usage")
    if not isinstance(answers, kind):
        return piece
    counts = usage if isinstance(usage, Mapping) else {}
    details = counts.get("input_tokens_details")
    told = {
        "prompt_tokens": counts.get("input_tokens"),
        "completion_tokens": counts.get("output_tokens"),
        "prompt_tokens_details": details if isinstance(details, Mapping) else None,
    }
    message = {"role": "assistant", "content": json.dumps(answers)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"model": piece.get("model"), "choices": [choice], "usage": told if counts else None}


def _read(index: int, question: Question, answer: object, probabilities: Any) -> Answered | Declined:
    """Declined is what has no answer, and one that is none."""
    if not isinstance(answer, Mapping):
        return Declined(index)
    try:
        if isinstance(question, YesNo):
            yes = min(max(_number(answer.get("probability", answer.get("noul"))), 0.0), 1.0)
            return Answered(index, (1 - yes, yes))
        found = [max(_number(each), 0.0) for each in probabilities(question, answer["probabilities"])]
    except (LookupError, TypeError, ValueError):
        return Declined(index)
    return Answered(index, normalized(found)) if any(found) else Declined(index)


def _listed(question: Question, stated: Any) -> list[object]:
    """Of OpenAI's list: by value, which for a scale is the level's number."""
    by_value = {(type(each["value"]), each["value"]): each["probability"] for each in stated}
    if isinstance(question, Choice):
        return [by_value[type(each.value), each.value] for each in question.options]
    return [by_value[int, level] for level in range(question.size)]


def _labelled(question: Question, stated: Any) -> list[object]:
    names = _labels(question) if isinstance(question, Choice) else map(str, range(question.size))
    return [stated[name] for name in names]


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise ValueError(value)
    return float(value)
