"""What whole and streamed answers of /v1/responses are both made of. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from edge_router.chat.events import Finished, TokenLogprob, Usage
from edge_router.chat.message import Part, Reasoning, Refusal, Text, ToolCall
from edge_router.chat.reply import Reply
from edge_router.records import dataclass
from edge_router.surfaces.base import Body, Call, Failure, Head
from edge_router.surfaces.responses.parse import ResponsesOptions
from edge_router.surfaces.responses.store import Item, ResponseStore
from edge_router.surfaces.responses.thoughts import sealed

# Codes that clients act on; they take all others for a reason to try again, or not to.
_CODES = ("context_length_exceeded", "insufficient_quota", "rate_limit_exceeded")
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
OPTIONS = "responses"


@dataclass(frozen=True, slots=True)
class ResponsesAnswer:
    """One answer, from what was asked and how it begins."""

    call: Call
    head: Head

    @property
    def options(self) -> ResponsesOptions:
        return cast(ResponsesOptions, self.call.options[OPTIONS])

    def id(self, kind: str, index: int) -> str:
        return f"{kind}_{self.head.id}_{index}"

    def body(
        self, output: Sequence[Item], end: Finished | None = None, failure: Failure | None = None
    ) -> Body:
        """The answer without what it repeats of the request."""
        reason = INCOMPLETE.get(end.reason) if end is not None else None
        status = "in_progress" if end is None else "incomplete" if reason else "completed"
        error = None
        if failure is not None:
            status, error = "failed", {"code": _code(failure), "message": failure.message}
        return {
            "id": f"resp_{self.head.id}",
            "object": "response",
            "created_at": self.head.created,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self.head.model,
            "output": output,
            "usage": _usage(end.usage) if end is not None and end.usage is not None else None,
        }

    def keep(self, body: Item, store: ResponseStore) -> None:
        """Unless it is not wanted, or private."""
        if self.options.store and not self.call.request.private:
            store.add(str(body["id"]), body, self.options.given, self.options.before)

    def message(self, id: str, content: Sequence[Item], status: str, *, before_call: bool) -> Body:
        """`phase` tells agents that these words are not the answer yet."""
        item: Body = {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}
        return {**item, "phase": "commentary"} if before_call else item

    def thoughts(self, id: str, thoughts: Reasoning, status: str) -> Body:
        """With `encrypted_content` where they would come back as less than they are."""
        text, summary = thoughts.text, self.options.summary
        item: Body = {"id": id, "type": "reasoning", "status": status, "summary": []}
        if summary:
            item["summary"] = [{"type": "summary_text", "text": text}] if text else []
        else:
            item["content"] = [{"type": "reasoning_text", "text": text}] if text else []
        whole = status != "in_progress"
        if whole and (self.options.encrypted or thoughts.label or thoughts.opaque):
            item["encrypted_content"] = sealed(thoughts)
        return item

    def call_item(self, id: str, call: ToolCall, status: str) -> Body:
        namespace, name = self.options.namespaces.get(call.name, (None, call.name))
        item: Body = {"id": id, "type": "custom_tool_call" if call.free else "function_call"}
        item |= {"status": status, "call_id": call.id, "name": name}
        if namespace is not None:
            item["namespace"] = namespace
        item["input" if call.free else "arguments"] = call.arguments
        return {**call.extra, **item}


def output_items(answer: ResponsesAnswer, reply: Reply) -> list[Body]:
    """The items of a whole answer; words and refusals side by side are one message."""
    groups: list[list[Part]] = []
    for part in reply.parts:
        said = isinstance(part, Text | Refusal)
        if said and groups and isinstance(groups[-1][0], Text | Refusal):
            groups[-1].append(part)
        else:
            groups.append([part])
    if is_silent(reply.finish_reason, (isinstance(group[0], Reasoning) for group in groups)):
        groups.append([Text("")])
    last = INCOMPLETE.get(reply.finish_reason) and len(groups) - 1
    logprobs = reply.logprobs if answer.call.request.logprobs else ()
    items: list[Body] = []
    for index, (first, *_) in enumerate(groups):
        status = "incomplete" if index == last else "completed"
        if isinstance(first, Reasoning):
            items.append(answer.thoughts(answer.id("rs", index), first, status))
        elif isinstance(first, ToolCall):
            items.append(answer.call_item(answer.id(call_prefix(first.free), index), first, status))
        else:
            content = []
            for part in groups[index]:
                content.append(content_part(part, logprobs))
                logprobs = () if isinstance(part, Text) else logprobs
            calls = index + 1 < len(groups) and isinstance(groups[index + 1][0], ToolCall)
            items.append(answer.message(answer.id("msg", index), content, status, before_call=calls))
    return items


def is_silent(reason: str, thoughts: Iterator[bool]) -> bool:
    """Whether an answer ended by itself and has nothing but thoughts: agents would go on asking."""
    return reason == "stop" and all(thoughts)


def call_prefix(free: bool) -> str:
    return "ctc" if free else "fc"


def content_part(part: Part, logprobs: Sequence[TokenLogprob] = ()) -> Body:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    assert isinstance(part, Text)
    return {
        "type": "output_text",
        "annotations": [],
        "logprobs": [written_logprob(one) for one in logprobs],
        "text": part.text,
    }


def written_logprob(token: TokenLogprob) -> Body:
    return {**_token(token), "top_logprobs": [_token(other) for other in token.top]}


def _token(token: TokenLogprob) -> Body:
    # Minus infinity is no JSON; this is what OpenAI writes for it.
    return {"token": token.token, "bytes": list(token.token_bytes), "logprob": max(token.logprob, -9999.0)}


def _usage(usage: Usage) -> Body:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _code(failure: Failure) -> str:
    if failure.code in _CODES:
        return failure.code
    return "server_error" if failure.status >= 500 else "invalid_prompt"
