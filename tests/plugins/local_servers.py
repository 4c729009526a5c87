"""Stand-ins for servers that people run on their machines: Ollama, llama.cpp's, LM Studio, vLLM, mlc_llm.

Each answers as the real one does, by its own source or documentation of autumn 2026, as far as it is asked
here: what it is, which models it has, chats in pieces, refusals. Faults are attributes that a test sets.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

WORDS = ("The ", "sea ", "is ", "blue · ça va", ".")
QWEN, CLOUD = "qwen3:4b", "gpt-oss:120b-cloud"
TRAINED = 40960


@dataclass
class Behaviour:
    """What goes wrong, and how the model is. `refuses`: a status and what is said for each chat."""

    context: int = 4096
    version: str = "0.14.2"
    loads_s: float = 0.0  # before the first token
    refuses: tuple[int, object] | None = None
    loading: int = 0  # how many requests are told that the model is being loaded
    breaks_after: int | None = None  # pieces
    pauses_s: float = 0.0  # between pieces
    endless: bool = False
    logprob: float = -0.25
    words: tuple[str, ...] = WORDS
    thinks: bool = True
    calls: tuple[dict[str, Any], ...] = ()
    key: str | None = None
    passes_on: bool = False  # Ollama, to its makers' servers, whatever the model's name
    moved_to: str | None = None
    seen: list[tuple[str, str, Any, dict[str, str]]] = field(
        default_factory=list
    )  # method, path, body, headers
    stopped: threading.Event = field(default_factory=threading.Event)  # a client has hung up, and it noticed


class StandIn:
    """One of them on a free port of 127.0.0.1."""

    def __init__(self, handler: type[Handler], port: int = 0, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self._server = _Server(("127.0.0.1", port), handler, self.behaviour)
        self.port = self._server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def chats(self) -> list[Any]:
        """The bodies of the questions so far."""
        return [body for _, path, body, _ in self.behaviour.seen if path in CHATS and _asks(body)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


CHATS = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions")


def _asks(body: Any) -> bool:
    return bool(body.get("messages") or body.get("prompt"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[Handler], behaviour: Behaviour) -> None:
        self.behaviour, self.loaded, self.lock = behaviour, False, threading.Lock()
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        return None  # clients hang up, which is the point


class Handler(BaseHTTPRequestHandler):
    """What they share: recording, refusing, pieces of an answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    unknown: ClassVar[tuple[int, object]] = (404, "404 page not found")

    @property
    def will(self) -> Behaviour:
        return self.server.behaviour

    def log_message(self, *_: object) -> None:
        return None

    def do_GET(self) -> None:
        self.route("GET", None)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.route("POST", json.loads(self.rfile.read(length) or b"{}"))

    def route(self, method: str, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.will.seen.append((method, self.path, body, headers))
        if self.will.moved_to is not None:
            self.say(307, {}, {"Location": self.will.moved_to + self.path})
        elif self.will.key is not None and headers.get("authorization") != f"Bearer {self.will.key}":
            self.say(
                401, {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}
            )
        else:
            self.answer(method, self.path.partition("?")[0], body)

    def answer(self, method: str, path: str, body: Any) -> None:
        raise NotImplementedError

    def say(self, status: int, said: object, headers: dict[str, str] | None = None) -> None:
        data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        kind = "text/plain" if isinstance(said, str) else "application/json; charset=utf-8"
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refused(self) -> bool:
        if self.will.refuses is not None:
            self.say(*self.will.refuses)
        return self.will.refuses is not None

    def pieces(self) -> Iterator[str]:
        """Of the answer. Ends the connection where it is to break off."""
        count = 0
        while True:
            for word in self.will.words:
                if self.will.breaks_after is not None and count >= self.will.breaks_after:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    raise OSError
                if count:
                    time.sleep(self.will.pauses_s)
                count += 1
                yield word
            if not self.will.endless:
                return

    def stream(self, kind: str, lines: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in lines:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.will.stopped.set()
            raise

    def logprobs(self, text: str, likeliest: int) -> list[dict[str, Any]]:
        one = {"token": text, "logprob": self.will.logprob, "bytes": list(text.encode())}
        return [{**one, **({"top_logprobs": [one] * likeliest} if likeliest else {})}]


class Ollama(Handler):
    """0.14 and later."""

    def answer(self, method: str, path: str, body: Any) -> None:
        match path:
            case "/api/version":
                self.say(200, {"version": self.will.version})
            case "/api/tags":
                self.say(200, {"models": [_tag(QWEN), _tag("nomic-embed-text:latest"), _tag(CLOUD)]})
            case "/api/ps":
                self.say(200, {"models": [self.running()] if self.server.loaded else []})
            case "/api/show":
                self.show(body)
            case "/v1/models":
                names = (QWEN, "nomic-embed-text:latest", CLOUD)
                data = [
                    {"id": n, "object": "model", "created": 1764500000, "owned_by": "library"} for n in names
                ]
                self.say(200, {"object": "list", "data": data})
            case "/api/chat" | "/api/generate":
                self.chat(path, body)
            case _:
                self.say(404, "404 page not found")

    def running(self) -> dict[str, Any]:
        more = {"expires_at": "2026-11-30T12:00:00Z", "size_vram": 3_000_000_000}
        return {**_tag(QWEN), "size": 4_000_000_000, **more, "context_length": self.will.context}

    def show(self, body: Any) -> None:
        if body["model"] not in (QWEN, CLOUD):
            self.say(404, {"error": f"model '{body['model']}' not found"})
            return
        able = ["completion", "tools", *(["thinking"] if self.will.thinks else [])]
        info = {"general.architecture": "qwen3", "qwen3.context_length": TRAINED}
        found = {"modelfile": "", "parameters": 'stop  "<|im_end|>"', "template": "", "details": {}}
        elsewhere = {"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b"}
        self.say(
            200,
            {
                **found,
                "model_info": info,
                "capabilities": able,
                **(elsewhere if body["model"] == CLOUD or self.will.passes_on else {}),
            },
        )

    def chat(self, path: str, body: Any) -> None:
        if body["model"] != QWEN:
            self.say(404, {"error": f"model '{body['model']}' not found"})
            return
        if self.refused():
            return
        time.sleep(self.will.loads_s)
        self.server.loaded = body.get("keep_alive") != 0
        self.will.context = min(body.get("options", {}).get("num_ctx") or self.will.context, TRAINED)
        if not _asks(body):
            reason = "load" if self.server.loaded else "unload"
            opening = {"model": QWEN, "created_at": "2026-11-30T10:00:00Z"}
            self.say(
                200,
                {
                    **opening,
                    "message": {"role": "assistant", "content": ""},
                    "done": True,
                    "done_reason": reason,
                },
            )
            return
        count = len(json.dumps(body.get("messages") or body["prompt"], ensure_ascii=False)) // 4
        if count >= self.will.context and body.get("truncate") is False:
            self.say(400, {"error": "the input length exceeds the context length"})
            return
        self.stream("application/x-ndjson", self.lines(path, body, count))

    def lines(self, path: str, body: Any, count: int) -> Iterator[bytes]:
        written = 0
        if body.get("think"):
            more = {"logprobs": self.logprobs("Hmm. ", 0)} if body.get("logprobs") else {}
            yield self.line(path, {"content": "", "thinking": "Hmm. "}, **more)
        for call in self.will.calls if body.get("tools") else ():
            yield self.line(path, {"content": "", "tool_calls": [call]})
        most = body.get("options", {}).get("num_predict") or 10**9
        for text in () if self.will.calls and body.get("tools") else self.pieces():
            if written == most:
                break
            written += 1
            more = (
                {"logprobs": self.logprobs(text, body.get("top_logprobs", 0))} if body.get("logprobs") else {}
            )
            yield self.line(path, {"content": text}, **more)
        durations = {"total_duration": 5_000_000, "load_duration": 1, "prompt_eval_duration": 2_000_000}
        yield self.line(
            path,
            {"content": ""},
            done=True,
            done_reason="length" if written == most else "stop",
            **durations,
            prompt_eval_count=count,
            eval_count=written,
            eval_duration=4_000_000,
        )

    def line(self, path: str, said: dict[str, Any], done: bool = False, **more: Any) -> bytes:
        opening = {"model": QWEN, "created_at": "2026-11-30T10:00:00.123456789Z"}
        if self.will.passes_on:
            opening |= {"remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com:443"}
        if path == "/api/chat":
            body = {**opening, "message": {"role": "assistant", **said}}
        else:
            body = {**opening, "response": said["content"]}
        return json.dumps({**body, "done": done, **more}, ensure_ascii=False).encode() + b"\n"


def _tag(name: str) -> dict[str, Any]:
    details = {"parent_model": "", "format": "gguf", "family": "qwen3", "families": ["qwen3"]}
    able = ["embedding"] if "embed" in name else ["completion", "tools", "thinking"]
    elsewhere = (
        {"remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com:443"} if name == CLOUD else {}
    )
    return {
        "name": name,
        "model": name,
        **elsewhere,
        "modified_at": "2026-11-01T10:00:00.123456789+01:00",
        "size": 384 if elsewhere else 2_500_000_000,
        "digest": "3af1" * 16,
        "details": {**details, "parameter_size": "4.0B", "quantization_level": "Q4_K_M"},
        "capabilities": able,
    }


class OpenAIs(Handler):
    """What is common to those that speak OpenAI's protocol."""

    name = "model"

    def chat(self, path: str, body: Any) -> None:
        if self.refused():
            return
        time.sleep(self.will.loads_s)
        count = len(json.dumps(body.get("messages") or body["prompt"], ensure_ascii=False)) // 4
        if count >= self.will.context:
            self.too_long(count)
            return
        self.stream("text/event-stream", self.events(path, body, count))

    def too_long(self, count: int) -> None:
        raise NotImplementedError

    def gives_logprobs(self, body: Any) -> bool:
        return bool(body.get("logprobs"))

    def events(self, path: str, body: Any, count: int) -> Iterator[bytes]:
        chat = path == "/v1/chat/completions"
        if chat and self.thinking(body):
            logprobs = {"content": self.logprobs("Hmm. ", 0)} if self.gives_logprobs(body) else None
            yield self.event(chat, {"reasoning_content": "Hmm. "}, logprobs)
        called = self.will.calls if body.get("tools") else ()
        for index, call in enumerate(called):
            function = {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}
            one = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
            yield self.event(chat, {"tool_calls": [one]})
        written, most = 0, body.get("max_tokens") or 10**9
        for text in () if called else self.pieces():
            if written == most:
                break
            written += 1
            logprobs = None
            if chat and self.gives_logprobs(body):
                likeliest = body.get("top_logprobs") or 0
                logprobs = {
                    "content": [
                        {**e, "top_logprobs": e.get("top_logprobs", [])}
                        for e in self.logprobs(text, likeliest)
                    ]
                }
            yield self.event(chat, {"content": text}, logprobs)
        reason = "tool_calls" if called else "length" if written == most else "stop"
        yield self.event(chat, {}, finish=reason)
        usage = {"prompt_tokens": count, "completion_tokens": written, "total_tokens": count + written}
        yield self.data({**self.opening(chat), "choices": [], "usage": usage, **self.closing(count, written)})
        yield b"data: [DONE]\n\n"

    def closing(self, count: int, written: int) -> dict[str, Any]:
        return {}

    def thinking(self, body: Any) -> bool:
        return bool(body.get("chat_template_kwargs", {}).get("enable_thinking"))

    def opening(self, chat: bool) -> dict[str, Any]:
        kind = "chat.completion.chunk" if chat else "text_completion"
        return {"id": "chatcmpl-1", "object": kind, "created": 1764500000, "model": self.name}

    def event(
        self, chat: bool, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None
    ) -> bytes:
        said: dict[str, Any] = {"delta": delta} if chat else {"text": delta.get("content", "")}
        choice = {"index": 0, **said, "logprobs": logprobs, "finish_reason": finish}
        return self.data({**self.opening(chat), "choices": [choice]})

    def data(self, body: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


class LlamaCpp(OpenAIs):
    """`llama-server`, with one model."""

    name = "models/SmolLM2-135M-Instruct-Q8_0.gguf"

    def answer(self, method: str, path: str, body: Any) -> None:
        if self.will.loading > 0:
            self.will.loading -= path != "/health"
            self.say(503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})
            return
        match path:
            case "/health":
                self.say(200, {"status": "ok"})
            case "/props":
                settings = {"id": 0, "n_ctx": self.will.context, "params": {}}
                about = {"total_slots": 1, "model_path": self.name, "modalities": {"vision": False}}
                caps = {"chat_template": "{{ messages }}", "chat_template_caps": {"supports_tools": True}}
                self.say(
                    200, {"default_generation_settings": settings, **about, **caps, "build_info": "b9000-abc"}
                )
            case "/v1/models":
                meta = {
                    "vocab_type": 2,
                    "n_vocab": 49152,
                    "n_ctx_train": 8192,
                    "n_params": 134515008,
                    "size": 144,
                }
                one = {"id": self.name, "object": "model", "created": 1, "owned_by": "llamacpp", "meta": meta}
                self.say(200, {"models": [{"name": self.name}], "object": "list", "data": [one]})
            case "/apply-template":
                self.say(200, {"prompt": "".join(str(each["content"]) for each in body["messages"])})
            case "/tokenize":
                self.say(200, {"tokens": list(range(len(body["content"]) // 4))})
            case "/v1/chat/completions" | "/v1/completions":
                self.chat(path, body)
            case _:
                self.say(
                    404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}
                )

    def closing(self, count: int, written: int) -> dict[str, Any]:
        return {"timings": {"prompt_n": count, "prompt_ms": 2.0, "predicted_n": written, "predicted_ms": 4.0}}

    def too_long(self, count: int) -> None:
        message = f"request ({count} tokens) exceeds the available context size ({self.will.context} tokens), try increasing it"
        error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
        self.say(400, {"error": {**error, "n_prompt_tokens": count, "n_ctx": self.will.context}})


class LMStudio(OpenAIs):
    """0.3.6 and later. Answers paths that it does not know with 200, and gives no log probabilities."""

    name = "qwen3-4b"

    def answer(self, method: str, path: str, body: Any) -> None:
        match path:
            case "/v1/models":
                data = [
                    {"id": name, "object": "model", "owned_by": "organization_owner"}
                    for name in ("qwen3-4b", "text-embedding-nomic")
                ]
                self.say(200, {"data": data, "object": "list"})
            case "/api/v0/models":
                shared = {"object": "model", "publisher": "lmstudio-community", "compatibility_type": "gguf"}
                chat = {"id": "qwen3-4b", "type": "llm", "arch": "qwen3", "quantization": "Q4_K_M"}
                held = (
                    {"state": "loaded", "loaded_context_length": self.will.context}
                    if self.server.loaded
                    else {"state": "not-loaded"}
                )
                embeds = {
                    "id": "text-embedding-nomic",
                    "type": "embeddings",
                    "state": "not-loaded",
                    "max_context_length": 2048,
                }
                listed = {**shared, **chat, **held, "max_context_length": 32768, "capabilities": ["tool_use"]}
                self.say(200, {"data": [listed, {**shared, **embeds}], "object": "list"})
            case "/v1/chat/completions" | "/v1/completions":
                self.server.loaded = True
                self.chat(path, body)
            case _:
                self.say(200, {"error": f"Unexpected endpoint or method. ({method} {path})"})

    def gives_logprobs(self, body: Any) -> bool:
        return False

    def too_long(self, count: int) -> None:
        message = (
            f"Trying to keep the first {count} tokens when context the overflows. However, the model is loaded with "
            f"context length of only {self.will.context} tokens, which is not enough."
        )
        self.say(400, {"error": message})


class VLLM(OpenAIs):
    name = "Qwen/Qwen3-4B"

    def answer(self, method: str, path: str, body: Any) -> None:
        match path:
            case "/v1/models":
                about = {
                    "object": "model",
                    "created": 1,
                    "owned_by": "vllm",
                    "root": self.name,
                    "parent": None,
                }
                self.say(
                    200,
                    {
                        "object": "list",
                        "data": [{"id": self.name, **about, "max_model_len": self.will.context}],
                    },
                )
            case "/tokenize":
                self.say(
                    200,
                    {
                        "count": len(json.dumps(body["messages"], ensure_ascii=False)) // 4,
                        "max_model_len": self.will.context,
                        "tokens": [],
                    },
                )
            case "/v1/chat/completions" | "/v1/completions":
                self.chat(path, body)
            case _:
                self.say(404, {"detail": "Not Found"})

    def too_long(self, count: int) -> None:
        message = (
            f"This model's maximum context length is {self.will.context} tokens. However, your request has {count} "
            "input tokens. Please reduce the length of the input messages."
        )
        self.say(
            400,
            {"error": {"message": message, "type": "BadRequestError", "param": "input_tokens", "code": 400}},
        )


class MLC(OpenAIs):
    """`mlc_llm serve`."""

    name = "dist/Qwen3-4B-q4f16_1-MLC"

    def answer(self, method: str, path: str, body: Any) -> None:
        match path:
            case "/v1/models":
                self.say(
                    200,
                    {
                        "object": "list",
                        "data": [{"id": self.name, "created": 1, "object": "model", "owned_by": "MLC-LLM"}],
                    },
                )
            case "/v1/chat/completions" | "/v1/completions":
                self.chat(path, body)
            case _:
                self.say(404, {"detail": "Not Found"})

    def too_long(self, count: int) -> None:
        message = f"Request prompt has {count} tokens in total, larger than the model input length limit {self.will.context}."
        self.say(400, {"object": "error", "message": message, "code": 400})


KINDS: dict[str, tuple[type[Handler], str]] = {
    "ollama": (Ollama, QWEN),
    "llama.cpp": (LlamaCpp, "SmolLM2-135M-Instruct-Q8_0"),
    "lmstudio": (LMStudio, LMStudio.name),
    "vllm": (VLLM, VLLM.name),
    "mlc": (MLC, MLC.name),
}
