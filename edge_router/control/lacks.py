"""What the weak model cannot do of what a request asks for, and how that is told."""

from __future__ import annotations

from edge_router.chat.request import ChatRequest, Need
from edge_router.errors import UnsupportedRequest, Withheld
from edge_router.types import Decision, Reason

_TEXT_ONLY, _NO_FORM = "reads text only, no images, sounds or files", "cannot be held to this form"
_UNMEASURED = "was not found to call tools well enough, which `edge-router calibrate --tools` measures"
# What a weak model does without the engine's serving that need, the plainest first.
_LACKS = {
    Need.IMAGES: _TEXT_ONLY,
    Need.AUDIO: _TEXT_ONLY,
    Need.FILES: _TEXT_ONLY,
    Need.HOSTED_TOOLS: "has no tools of an endpoint, such as a search",
    Need.TOOL_CALL: "cannot be made to call a tool",
    Need.TOOLS: "calls no tools",
    Need.SPEECH: "writes text only",
    Need.JSON: _NO_FORM,
    Need.GRAMMAR: _NO_FORM,
    Need.SUFFIX: "was not taught to write the text between two others",
    Need.QUESTIONS: "answers no typed questions",
    Need.FOREIGN: "knows no such part or form",
    Need.MASK: "follows no mask",
    Need.LOGPROBS: "tells no log probabilities",
}


def check_handles(
    request: ChatRequest, decision: Decision, serves: frozenset[Need], *, may_call_tools: bool
) -> None:
    """Raises `UnsupportedRequest`, `Withheld` where a weak model that `serves` those would leave out what is
    asked for. `may_call_tools`: only a measurement is lacking."""
    unmet = request.needs - serves
    for need, lacks in _LACKS.items() if unmet else ():
        if need in unmet:
            if Need.TOOLS in unmet and need in (Need.TOOL_CALL, Need.TOOLS):
                lacks = _UNMEASURED if may_call_tools else _LACKS[Need.TOOLS]
            if decision.reason is Reason.GUARD or (decision.reason is Reason.RULE and decision.rule):
                rule = decision.rule if decision.reason is Reason.RULE else None
                raise Withheld(decision.found, rule, lacks)
            reason = f"the weak model {lacks}, and no strong model is asked"
            raise UnsupportedRequest(request.name_of(need), reason)
