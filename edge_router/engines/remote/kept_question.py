"""A whole question as text that is kept, and read again when the strong model is asked later. Pure."""

from __future__ import annotations

import json
from dataclasses import replace

from edge_router.chat.request import ChatRequest, Extra, ForeignOutput, Need
from edge_router.engines.remote.request import request_body
from edge_router.errors import InvalidRequest
from edge_router.parsing import strict_json
from edge_router.surfaces.openai.parse import PROTOCOL, parse_chat, parse_completion

MOST = 1_000_000  # characters; more is pictures
_NEVER = frozenset({Need.MASK, Need.GRAMMAR, Need.FOREIGN, Need.SPEECH})
_OURS = ("model", "stream", "stream_options")


def written(request: ChatRequest) -> str | None:
    """None where no other model could answer it later as it was asked, or it is too large to be kept."""
    if request.private or request.continue_final or request.needs & _NEVER:
        return None
    if isinstance(request.output, ForeignOutput):
        return None
    body = request_body(replace(request, logprobs=False, top_logprobs=0), "strong")
    fields = {name: value for name, value in body.items() if name not in _OURS}
    more = {
        "program": request.program,
        "caller": request.caller,
        "metadata": request.extra.fields.get("metadata") if request.extra.protocol != PROTOCOL else None,
    }
    text = json.dumps({"body": fields, **{name: value for name, value in more.items() if value}})
    return text if len(text) <= MOST else None


def read(text: str) -> ChatRequest:
    """Raises `InvalidRequest` for what no version of ours has written."""
    try:
        kept = strict_json.parse_object(text)
        body, program, caller = kept["body"], kept.get("program"), kept.get("caller")
        if not isinstance(body, dict):
            raise TypeError
    except (strict_json.NotJson, KeyError, TypeError) as error:
        raise InvalidRequest("id", "its question was kept in a form that is not known here") from error
    call = (parse_completion if "prompt" in body else parse_chat)({**body, "model": "strong"})
    request = replace(
        call.request,
        program=program if isinstance(program, str) else None,
        caller=caller if isinstance(caller, str) else None,
    )
    metadata = kept.get("metadata")  # of another protocol: for the rules, and for no endpoint
    return replace(request, extra=Extra("", {"metadata": metadata})) if metadata else request
