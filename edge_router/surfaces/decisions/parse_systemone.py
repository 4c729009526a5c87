"""Bodies of /v1/systemone, made `ChatRequest`s. Pure. Each refusal is an `InvalidRequest` with its field."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping

from edge_router.chat.message import Image, Message, Part, Text
from edge_router.chat.request import ChatRequest
from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import Fields, listed, plain_object, shown
from edge_router.questions.checking import ProtocolWords, check, check_count
from edge_router.questions.inquiry import state_text
from edge_router.questions.question import Choice, Level, Option, Question, Scale, YesNo
from edge_router.surfaces.base import FILES
from edge_router.surfaces.decisions.fields import QUESTIONS, frame, question_fields, request_of, words

PROTOCOL = "typesafe"  # of `Extra`
REQUEST_PART = "request"  # of a multipart body: the JSON
MOST_ASSETS = 64
_NAMES = ("type", "instructions", "criteria")
_WORDS = ProtocolWords(options="criteria", value="", levels="criteria", label="")
_KINDS = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}
_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


def parse(body: Mapping[str, object]) -> ChatRequest:
    files = body.get(FILES)
    layer = plain_object({name: value for name, value in body.items() if name != FILES})
    fields, private = frame(layer, ("state", "assets"), ("state", QUESTIONS, "assets"))
    if fields.get("state") is None:
        raise InvalidRequest("state", "is missing: it is what the questions are about")
    images = dict(_assets(fields, files if isinstance(files, Mapping) else {}))
    return request_of(
        fields,
        [Message("user", tuple(_parts(state_text(fields.get("state")), images)))],
        [*_questions(fields.get(QUESTIONS))],
        state="state",
        protocol=PROTOCOL,
        private=private,
        read=("state", "assets"),
    )


def _questions(value: object) -> Iterator[Question]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(QUESTIONS, "must be an object: a question by each name")
    check_count(len(value))
    for name, stated in value.items():
        where = f"{QUESTIONS}.{shown(name)}"
        question = _question(name, question_fields(stated, where, *_NAMES))
        check(question, where, _WORDS)
        yield question


def _question(name: str, stated: Fields) -> Question:
    kind = stated.get("type")
    read = _TYPES.get(kind) if isinstance(kind, str) else None
    if read is None:
        reason = f"must be {listed(tuple(_TYPES))}"
        if kind == "box":
            reason += "; boxes are not found here"
        raise stated.refuse("type", reason)
    instructions = words(stated.get("instructions"), f"{stated.within}.instructions") or ""
    return read(name, instructions, stated)


def _noul(name: str, instructions: str, stated: Fields) -> Question:
    criteria = stated.object("criteria") or Fields({})
    for answer in criteria.body:
        if answer not in ("true", "false"):
            raise InvalidRequest(f"{stated.within}.criteria.{shown(answer)}", "is neither true nor false")
    yes, no = (words(criteria.get(each), f"{stated.within}.criteria.{each}") for each in ("true", "false"))
    return YesNo(name, instructions, yes, no)


def _choice(name: str, instructions: str, stated: Fields) -> Question:
    criteria = stated.object("criteria")
    if criteria is None:
        raise stated.refuse("criteria", "is missing: it holds a description, or null, by each choice")
    options = (
        Option(label, words(description, f"{criteria.within}.{shown(label)}"))
        for label, description in criteria.body.items()
    )
    return Choice(name, instructions, tuple(options))


def _score(name: str, instructions: str, stated: Fields) -> Question:
    criteria = stated.get("criteria")
    if not isinstance(criteria, list):
        raise stated.refuse("criteria", "must be a list of levels, the lowest first")
    where = f"{stated.within}.criteria"
    levels = (words(level, f"{where}[{index}]") or "" for index, level in enumerate(criteria))
    return Scale(name, instructions, tuple(Level(level) for level in levels))


_TYPES: Mapping[str, Callable[[str, str, Fields], Question]] = {
    "noul": _noul,
    "choice": _choice,
    "score": _score,
}


def _assets(fields: Fields, files: Mapping[str, object]) -> Iterator[tuple[str, Image]]:
    """Images by what stands for them in the state."""
    assets = fields.object("assets")
    if assets is None:
        return
    if len(assets.body) > MOST_ASSETS:
        raise InvalidRequest("assets", f"holds more than {MOST_ASSETS} images")
    for name, stated in assets.body.items():
        where = f"assets.{shown(name)}"
        asset = question_fields(stated, where, "type", "format", "data_base64", "part")
        if asset.get("type") not in (None, "image"):
            raise asset.refuse("type", "must be image")
        yield name, Image(_address(asset, files))


def _address(asset: Fields, files: Mapping[str, object]) -> str:
    part, data = asset.text("part"), asset.text("data_base64")
    if part is not None:
        held = files.get(part)
        if not isinstance(held, bytes):
            raise asset.refuse("part", "names no part of this request that holds an image")
        return _data_url(held, "image/png")
    if not data:
        raise asset.refuse("part", "is missing: an image is a part of the request, or data_base64")
    try:
        head = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise asset.refuse("data_base64", "is not base64") from None
    return _data_url(head, _KINDS.get(asset.text("format") or "", "image/png"))


def _data_url(data: bytes, otherwise: str) -> str:
    kind = next((kind for begin, kind in _MAGIC if data.startswith(begin)), otherwise)
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _parts(text: str, images: Mapping[str, Image]) -> Iterator[Part]:
    """The state with each image where it is named, and behind it, by the name, where only a question names
    it."""
    left = dict(images)
    if images:
        found = re.split(f"({'|'.join(re.escape(name) for name in images)})", text)
        for piece in found:
            image = images.get(piece)
            if image is None:
                yield from (Text(piece),) if piece else ()
            else:
                left.pop(piece, None)
                yield image
    else:
        yield Text(text)
    for name, image in left.items():
        yield Text(f"\n{name}: ")
        yield image
