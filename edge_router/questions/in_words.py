"""Typed questions put to a model that only writes: in words, with a JSON schema for what it is to write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, JsonOutput, QuestionsOutput, SamplingParams
from edge_router.parsing import strict_json
from edge_router.questions.inquiry import Answered, Declined
from edge_router.questions.question import Choice, Question, YesNo

_ASK = """Answer the following questions about all of the above. Write one JSON object with a member for \
each question, under the name that stands before it. Certainties and probabilities are numbers from 0 to 1."""
_NUMBER: Mapping[str, object] = {"type": "number"}


def in_words(request: ChatRequest) -> ChatRequest:
    """`request`, whose output is questions, as one that any chat model can answer."""
    assert isinstance(request.output, QuestionsOutput)
    questions = request.output.questions
    asked = "\n\n".join(_told(index, question) for index, question in enumerate(questions))
    output = JsonOutput(_schema(questions), "answers", strict=True)
    return replace(
        request,
        messages=(*request.messages, Message("user", f"{_ASK}\n\n{asked}")),
        output=output,
        sampling=SamplingParams(temperature=0.0),
    )


def read(text: str, questions: Sequence[Question]) -> Iterator[Answered | Declined]:
    """The answers in what was written, also with words or a fence around; what cannot be understood is
    declined. Raises `NotJson`."""
    begin, end = text.find("{"), text.rfind("}") + 1
    written = strict_json.parse_object(text[begin:end] if 0 <= begin < end else text)
    for index, question in enumerate(questions):
        try:
            yield Answered(index, _probabilities(question, written[_name(index)]))
        except (LookupError, TypeError, ValueError):
            yield Declined(index)


def _name(index: int) -> str:
    return f"q{index + 1}"


def _told(index: int, question: Question) -> str:
    begin = f"{_name(index)}: {question.instructions}".rstrip()
    if isinstance(question, YesNo):
        when = [f"Yes: {question.yes}"] * bool(question.yes) + [f"No: {question.no}"] * bool(question.no)
        return "\n".join([begin, *when, "Write the probability that the answer is yes."])
    if isinstance(question, Choice):
        what, listed = "option", [(each.text, each.description) for each in question.options]
    else:
        what, listed = "level", [(each.label, each.description) for each in question.levels]
    lines = [
        f"{number}. {label}" + (f": {description}" if description else "")
        for number, (label, description) in enumerate(listed, 1)
    ]
    end = f"Write the number of the {what}, and the certainty that it is the right one."
    return "\n".join([begin, *lines, end])


def _schema(questions: Sequence[Question]) -> Mapping[str, object]:
    members = {_name(index): _member(question) for index, question in enumerate(questions)}
    return _object(members)


def _member(question: Question) -> Mapping[str, object]:
    if isinstance(question, YesNo):
        return _object({"probability": _NUMBER})
    numbers = list(range(1, question.size + 1))
    return _object({"number": {"type": "integer", "enum": numbers}, "certainty": _NUMBER})


def _object(members: Mapping[str, object]) -> Mapping[str, object]:
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def _probabilities(question: Question, written: Mapping[str, object]) -> tuple[float, ...]:
    """What is not the named one's is all others' alike. Raises `LookupError`, `TypeError`, `ValueError`."""
    if isinstance(question, YesNo):
        yes = _probability(written["probability"])
        return (1 - yes, yes)
    number, size = written["number"], question.size
    if not isinstance(number, int | float) or isinstance(number, bool) or number not in range(1, size + 1):
        raise ValueError(number)
    if size == 1:
        return (1.0,)
    own = max(_probability(written["certainty"]), 1 / size)  # what it names is the likeliest
    return tuple(own if at == number else (1 - own) / (size - 1) for at in range(1, size + 1))


def _probability(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(value)
    return float(value)
