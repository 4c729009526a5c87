"""What both protocols of typed questions have in common: a request's frame, and text that may be JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, Extra, Need, QuestionsOutput
from edge_router.errors import InvalidRequest
from edge_router.parsing.field_names import check_names
from edge_router.parsing.fields import Fields
from edge_router.parsing.privacy import body_marks
from edge_router.questions.inquiry import state_text
from edge_router.questions.question import Question
from edge_router.surfaces.limits import MAX_FIELDS, read_model

QUESTIONS = "questions"
_CUTS = ("auto", "middle")
_READ = ("model", QUESTIONS, "truncation", "private")


def frame(layer: dict[str, object], own: Collection[str], data: Collection[str]) -> tuple[Fields, bool]:
    """The body's fields, and whether it is marked as private.

    `own`: fields of this protocol beside the common ones. `data`: those that hold what names mean nothing in.
    """
    if len(layer) > MAX_FIELDS:
        raise InvalidRequest(None, f"holds more than {MAX_FIELDS} fields")
    check_names(layer, frozenset({*_READ, "metadata", *own}))
    named = {name: value for name, value in layer.items() if name not in data}
    private = any([*body_marks(named)])  # all of them are read
    return Fields({**named, **{name: layer[name] for name in data if name in layer}}), private


def request_of(
    fields: Fields,
    messages: Sequence[Message],
    questions: Sequence[Question],
    *,
    state: str,
    protocol: str,
    private: bool,
    read: Collection[str],
) -> ChatRequest:
    """`state` is what the protocol calls that which is asked about; what is not `read` is passed on."""
    cuts = fields.choice("truncation", *_CUTS, "disabled") in _CUTS
    left = {name: value for name, value in fields.body.items() if name not in (*_READ, *read)}
    return ChatRequest(
        tuple(messages),
        target=read_model(fields),
        output=QuestionsOutput(tuple(questions), cuts=cuts),
        private=private,
        extra=Extra(protocol, {name: value for name, value in left.items() if value is not None}),
        names={Need.QUESTIONS: QUESTIONS, Need.FILES: state},
    )


def question_fields(value: object, where: str, *known: str) -> Fields:
    """One question. Raises `InvalidRequest`, also for a slip in one of its names."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(where, "must be an object with a type")
    check_names(value, frozenset(known), f"{where}.")
    return Fields(value, within=where)


def words(value: object, where: str) -> str | None:
    """A text, or the text of an object or a list. Raises `InvalidRequest`."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping | list):
        return state_text(value)
    raise InvalidRequest(where, "must be a string, an object or a list")
