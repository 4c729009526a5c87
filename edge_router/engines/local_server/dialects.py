"""How local servers are asked: Ollama in its own words, the others as OpenAI is, with what they know beside.

Ollama's /v1 takes neither the size of the context nor whether to think, so it is asked at /api/chat. Left to
itself it cuts what does not fit without a word; here it is told to refuse that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_router.chat.message import Image, Message, Part, Reasoning, ToolResult
from edge_router.chat.request import ChatRequest, JsonOutput, SamplingParams, Tool
from edge_router.engines.local_server.servers import Kind, ServedModel
from edge_router.engines.remote.dialect import OpenAIDialect
from edge_router.engines.remote.place import cloud_of
from edge_router.engines.remote.terms import Terms
from edge_router.parsing.strict_json import NotJson, parse_object
from edge_router.records import dataclass

_TOLD_BY_TEMPLATE: tuple[Kind, ...] = ("llama.cpp", "vllm")  # whose templates take arguments of a request
_LOGPROBS = ("logprobs", "top_logprobs")
_EFFORTS = ("low", "medium", "high")  # which Ollama knows
_NANO = 1e6  # of a millisecond
Body = dict[str, object]


@dataclass(frozen=True, slots=True)
class ServedDialect(OpenAIDialect):
    """OpenAI's, and whether to think in the words of a template."""

    kind: Kind = "other"
    thinks: bool = False  # where a request does not say

    def body(self, request: ChatRequest, model: str, terms: Terms) -> Body:
        body = OpenAIDialect.body(self, request, model, terms)
        if self.kind in _TOLD_BY_TEMPLATE and "prompt" not in body:
            given = body.get("chat_template_kwargs")
            wanted = request.reasoning.enabled
            thinks = {"enable_thinking": self.thinks if wanted is None else wanted}
            body["chat_template_kwargs"] = {**thinks, **(given if isinstance(given, dict) else {})}
        if self.kind == "llama.cpp" and "tools" in body:  # it refuses the two together in a stream
            body = {name: value for name, value in body.items() if name not in _LOGPROBS}
        if self.kind == "vllm" and request.continue_final:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def chunk(self, piece: Mapping[str, Any]) -> Mapping[str, Any]:
        choices = piece.get("choices")
        if not isinstance(choices, list):
            return piece
        return {**piece, "choices": [_of_words_only(each) for each in choices]}


@dataclass(frozen=True, slots=True)
class OllamaDialect:
    """Of one model. `window`: the context to ask for; None leaves it to the server. `forgets`: the oldest
    tokens are left out of a conversation that is too long. `keep_alive`: its own word."""

    model: ServedModel
    window: int | None = None
    forgets: bool = False
    thinks: bool = False
    keep_alive: str | None = None

    @property
    def by_line(self) -> bool:
        return True

    @property
    def options(self) -> Body:
        """What says how the model is to lie in memory: at each question, or it would be loaded anew."""
        found: Body = {} if self.window is None else {"options": {"num_ctx": self.window}}
        return found | ({} if self.keep_alive is None else {"keep_alive": self.keep_alive})

    def path(self, body: Mapping[str, object]) -> str:
        return "/api/generate" if "prompt" in body else "/api/chat"

    def body(self, request: ChatRequest, model: str, terms: Terms) -> Body:
        options: Body = {**_sampling(request.sampling), "num_predict": request.max_tokens}
        options["stop"] = list(request.stop) or None
        options["num_ctx"] = self.window
        body: Body = {
            "model": model,
            "stream": True,
            "options": {name: value for name, value in options.items() if value is not None},
            "truncate": self.forgets,
            "shift": self.forgets,
        }
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        if request.raw_prompt is not None:
            body |= {"prompt": request.raw_prompt, "raw": True}
        else:
            body["messages"] = [each for message in request.messages for each in _written(message)]
        if isinstance(request.output, JsonOutput):
            body["format"] = "json" if request.output.schema is None else dict(request.output.schema)
        tools = [_tool(tool) for tool in request.callable_tools if isinstance(tool, Tool)]
        if tools:
            body["tools"] = tools
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if self.model.thinks and request.raw_prompt is None:
            body["think"] = self._think(request)
        return terms.fitted(body)

    def _think(self, request: ChatRequest) -> bool | str:
        asked = request.reasoning
        if asked.enabled is False or (asked.enabled is None and asked.effort is None and not self.thinks):
            return False
        return asked.effort if asked.effort in _EFFORTS else True

    def chunk(self, piece: Mapping[str, Any]) -> Mapping[str, Any]:
        if "error" in piece:
            return {"error": {"message": str(piece["error"]), "code": piece.get("status")}}
        if elsewhere := cloud_of("", piece):  # by now: it was another model when it was loaded
            return {"error": {"message": f"the model runs at {elsewhere}, not on this machine", "code": None}}
        message = piece.get("message")
        if not isinstance(message, dict):
            message = {"content": piece.get("response"), "thinking": piece.get("thinking")}
        delta: dict[str, Any] = {"content": message.get("content") or ""}
        if message.get("thinking"):
            delta["reasoning_content"] = message["thinking"]
        if message.get("tool_calls"):
            delta["tool_calls"] = _calls(message["tool_calls"])
        choice: dict[str, Any] = {"index": 0, "delta": delta}
        if piece.get("logprobs"):
            choice["logprobs"] = {"content": piece["logprobs"]}
        choice = _of_words_only(choice)
        if piece.get("done") is not True:
            return {"choices": [choice]}
        read, written = piece.get("prompt_eval_count", 0), piece.get("eval_count", 0)
        return {
            "choices": [{**choice, "finish_reason": piece.get("done_reason") or "stop"}],
            "usage": {"prompt_tokens": read, "completion_tokens": written},
            "timings": {
                "prompt_n": read,
                "prompt_ms": _milliseconds(piece.get("prompt_eval_duration")),
                "predicted_n": written,
                "predicted_ms": _milliseconds(piece.get("eval_duration")),
            },
        }


def _of_words_only(choice: Any) -> Any:
    """A choice without the log probabilities of thoughts: how sure a model is shows in what it says."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or delta.get("content") or not delta.get("reasoning_content"):
        return choice
    return {name: value for name, value in choice.items() if name != "logprobs"}


def _milliseconds(nanoseconds: object) -> float | None:
    return nanoseconds / _NANO if isinstance(nanoseconds, int | float) else None


def _sampling(sampling: SamplingParams) -> Body:
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }


def _written(message: Message) -> Iterator[Body]:
    for result in message.results:
        named = {} if result.name is None else {"tool_name": result.name}
        yield {"role": "tool", **_said(result.parts), **named, "tool_call_id": result.call_id}
    rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
    if not rest and message.results:
        return
    body: Body = {"role": "system" if message.role == "developer" else message.role, **_said(rest)}
    thoughts = "".join(part.text for part in rest if isinstance(part, Reasoning))
    if thoughts:
        body["thinking"] = thoughts
    if message.calls:
        body["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": _arguments(call.arguments)}}
            for call in message.calls
        ]
    yield body


def _said(parts: Sequence[Part]) -> Body:
    images = [part.url.partition(";base64,")[2] for part in parts if isinstance(part, Image)]
    return {"content": Message("user", parts).text, **({"images": images} if images else {})}


def _arguments(text: str) -> Mapping[str, object]:
    """What a model once wrote may be no object; as a text within one nothing of it is lost."""
    try:
        return parse_object(text) if text.strip() else {}
    except NotJson:
        return {"arguments": text}


def _tool(tool: Tool) -> Body:
    parameters = dict(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _calls(calls: object) -> object:
    """With arguments as OpenAI spells them, in a string. What is no list is left to whoever reads it."""
    if not isinstance(calls, list):
        return calls
    return [_call(each) if isinstance(each, dict) else each for each in calls]


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    told = {name: call[name] for name in ("id",) if call.get(name)}
    place = {"index": function["index"]} if isinstance(function.get("index"), int) else {}
    arguments = function.get("arguments")
    spelled = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {
        **told,
        **place,
        "type": "function",
        "function": {"name": function.get("name"), "arguments": spelled},
    }
