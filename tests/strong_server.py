"""A remote model's server that misbehaves on demand. Runs as its own process; standard library only.

What it does is the first part of the path: `http://127.0.0.1:PORT/cut-2/v1` sends two pieces and drops the
connection. Parts can be joined with "+": `flaky-1-500+ok`. `GET /requests` returns what it was asked so far,
`POST /forget` starts anew.

ok              the answer, in pieces, with usage where asked          nousage   never sends usage
json            a whole answer although a stream was asked for         nodone    no [DONE] at the end
halfjson        half of such an answer                                 cutjson   the same, with the connection dropped
tools           a tool call in pieces                                  nofinish  [DONE] but no finish_reason
refuse-FIELD    400 that names FIELD where the body holds it           lingers   never closes after finish_reason
empty           an answer with nothing in it                           reason-WORD  WORD is in every chunk's reason
STATUS          that HTTP status                                       STATUS-S  with Retry-After: S
turn-I-OF-N     in turns of N requests, whoever is asked, the I-th of OF fails: 500, drops, 429
flaky-N-STATUS  that status N times, then the rest of the path         echo      400 that repeats the key it was sent
silent          accepts and never answers                              slow      a quarter of a second between pieces
stall-N cut-N end-N error-N   N pieces, then: silence; a dropped connection; a clean end; an error object
norole-ROLE     400 where a message has that role                      nostream     400 where a stream is asked for, else json
limit-N         400 where more than N tokens are asked for             unknown      404, for there is no such model
quota           429 that no waiting helps against                      ndjson       a chunk to a line
plainjson       a whole answer as text/plain                           close        no empty lines between events
ssejson         such events as application/json
atonce          all events in one piece, and more behind [DONE]
html badjson notutf8 shape text     answers that are not OpenAI's
drop            closes the connection without an answer                nothttp   a greeting of another protocol
moved           307 to the path of `ok` on the host `localhost`
assist          thoughts, calls and JSON, as assistant.py says
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from assistant import Asked, assist, in_pieces

USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
TOOL_CALLS: tuple[dict[str, Any], ...] = (
    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"city": '}},
    {"index": 0, "function": {"arguments": '"Paris"}'}},
)


ROLES_TAKEN = {"system", "developer", "user", "assistant", "tool"}


def reply_text(prompt: str) -> str:
    return f"strong: {prompt} · ça va\u2028end"


def asked(body: dict[str, Any]) -> Asked:
    """What a chat asks of an assistant."""
    results: list[str] = []
    for message in body["messages"]:
        results = [*results, text_of(message)] if message["role"] == "tool" else []
    texts = [text_of(message) for message in body["messages"] if message["role"] == "user"]
    functions = [tool["function"] for tool in body.get("tools", ()) if tool["type"] == "function"]
    effort = body.get("reasoning_effort")
    return Asked(
        texts[-1],
        tuple(results),
        {each["name"]: tuple(each.get("parameters", {}).get("properties", {})) for each in functions},
        body.get("response_format", {}).get("type") == "json_schema",
        None if effort is None else effort != "none",
    )


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[dict[str, Any]] = []
        self.times: dict[str, int] = {}
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # clients that hang up are the point
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        return None

    # ---- control

    def do_GET(self) -> None:
        with self.server.lock:
            self.answer(200, json.dumps(self.server.seen).encode())

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/forget":
            with self.server.lock:
                self.server.seen.clear()
                self.server.times.clear()
            return self.answer(200, b"{}")
        path = urlsplit(self.path).path  # a whole address, where this serves as a proxy
        self.script, _, self.rest = path[1:].partition("/")
        self.body: dict[str, Any] = json.loads(raw)
        with self.server.lock:
            entry = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
            self.record = {**entry, "body": self.body, "gone": False, "port": self.client_address[1]}
            self.server.seen.append(self.record)
        for part in self.script.split("+"):
            name, *arguments = part.split("-")
            if name.isdigit():
                return self.refuse(int(name), arguments)
            if getattr(self, f"do_{name}")(*arguments):
                return None
        return self.stream(self.chunks())

    # ---- answering

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        usual = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**usual, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, arguments: list[str]) -> None:
        error = {"error": {"message": f"scripted {status}", "type": "scripted", "code": None, "param": None}}
        self.answer(status, json.dumps(error).encode(), {"Retry-After": arguments[0]} if arguments else None)

    def begin(self, kind: str = "text/event-stream; charset=utf-8") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def raw(self, data: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError:
            self.record["gone"] = True
            raise

    def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        self.raw(f"data: {text}\n\n".encode())

    def end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def stream(self, chunks: Iterator[object], *, done: bool = True, pause_s: float = 0.0) -> bool:
        self.begin()
        self.raw(b": a comment, as some servers send to keep the connection\n\n")
        for chunk in chunks:
            self.event(chunk)
            time.sleep(pause_s)
        if done:
            self.event("[DONE]")
        self.end()
        return True

    # ---- what a good answer is made of

    @property
    def is_chat(self) -> bool:
        return self.rest.endswith("chat/completions")

    def prompt(self) -> str:
        content = self.body["messages"][-1]["content"] if self.is_chat else self.body["prompt"]
        return content if isinstance(content, str) else json.dumps(content)

    def pieces(self) -> list[str]:
        return [piece + " " for piece in reply_text(self.prompt()).split(" ")]

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self.is_chat:
            choice["delta"] = delta
            if self.body.get("logprobs") and delta.get("content"):
                top = [{"token": "x", "logprob": -1.5, "bytes": [120]}] * self.body.get("top_logprobs", 0)
                entry = {"token": delta["content"], "logprob": -0.25, "bytes": None, "top_logprobs": top}
                choice["logprobs"] = {"content": [entry]}
        else:
            choice["text"] = delta.get("content", "")
            if self.body.get("logprobs") is not None and choice["text"]:
                logprobs = {
                    "tokens": [choice["text"]],
                    "token_logprobs": [-0.5],
                    "top_logprobs": [{"y": -2.5}],
                }
                choice["logprobs"] = logprobs
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "remote",
            "choices": [choice],
        }

    def chunks(self, *, usage: bool = True, finish: bool = True) -> Iterator[object]:
        yield self.chunk({"role": "assistant", "content": ""})
        for piece in self.pieces():
            yield self.chunk({"content": piece})
        if finish:
            yield self.chunk({}, "stop")
        if usage and (self.body.get("stream_options") or {}).get("include_usage"):
            yield {**self.chunk({}), "choices": [], "usage": USAGE}

    # ---- scripts; True: answered

    def do_ok(self) -> bool:
        return self.stream(self.chunks())

    def do_nousage(self) -> bool:
        return self.stream(self.chunks(usage=False))

    def do_nodone(self) -> bool:
        return self.stream(self.chunks(), done=False)

    def do_nofinish(self) -> bool:
        return self.stream(self.chunks(finish=False))

    def do_lingers(self) -> bool:
        self.begin()
        for chunk in self.chunks(usage=False):
            self.event(chunk)
        return self.hang()

    def do_empty(self) -> bool:
        self.pieces = list  # type: ignore[method-assign]
        return self.stream(self.chunks())

    def do_reason(self, word: str) -> bool:
        *pieces, end, usage = self.chunks()
        for piece in pieces:
            piece["choices"][0]["finish_reason"] = word  # type: ignore[index]
        return self.stream(iter([*pieces, end, usage]))

    def do_slow(self) -> bool:
        return self.stream(self.chunks(), pause_s=0.25)

    def do_json(self) -> bool:
        message = {"role": "assistant", "content": reply_text(self.prompt())}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answer(200, json.dumps({"id": "1", "choices": [choice], "usage": USAGE}).encode())
        return True

    def do_plainjson(self) -> bool:
        message = {"role": "assistant", "content": reply_text(self.prompt())}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "1", "choices": [choice], "usage": USAGE}).encode()
        self.answer(200, body, {"Content-Type": "text/plain"})
        return True

    def lines(self, before: str, kind: str) -> bool:
        texts = [json.dumps(chunk, ensure_ascii=False) for chunk in self.chunks()]
        self.answer(200, "".join(f"{before}{text}\n" for text in texts).encode(), {"Content-Type": kind})
        return True

    def do_ndjson(self) -> bool:
        return self.lines("", "application/x-ndjson")

    def do_close(self) -> bool:
        return self.lines("data: ", "text/event-stream")

    def do_ssejson(self) -> bool:
        return self.lines("data: ", "application/json")

    def do_atonce(self) -> bool:
        events = [*map(json.dumps, self.chunks()), "[DONE]", json.dumps(self.chunk({"content": "no"})), "{"]
        self.begin()
        self.raw("".join(f"data: {event}\n\n" for event in events).encode())
        self.end()
        return True

    def do_halfjson(self) -> bool:
        self.answer(200, b'{"choices": [{"message": {"content": "ha')
        return True

    def do_cutjson(self) -> bool:
        self.answer(200, b'{"choices": [', {"Content-Length": "99"})
        return self.do_drop()

    def do_tools(self) -> bool:
        deltas = [{"role": "assistant", "content": None}, *({"tool_calls": [call]} for call in TOOL_CALLS)]
        chunks = [self.chunk(delta) for delta in deltas]
        return self.stream(
            iter([*chunks, self.chunk({}, "tool_calls"), {**self.chunk({}), "choices": [], "usage": USAGE}])
        )

    def do_assist(self) -> bool:
        said = assist(asked(self.body))
        if said is None:
            return False
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
        deltas += [{"reasoning_content": piece} for piece in in_pieces(said.thoughts)]
        deltas += [{"content": piece} for piece in in_pieces(said.text)]
        for index, (name, arguments) in enumerate(said.calls):
            begin = {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
            rest = {"function": {"arguments": arguments}}
            deltas += [{"tool_calls": [{"index": index, **call}]} for call in (begin, rest)]
        chunks = [self.chunk(delta) for delta in deltas]
        chunks.append(self.chunk({}, "tool_calls" if said.calls else "stop"))
        return self.stream(iter([*chunks, {**self.chunk({}), "choices": [], "usage": USAGE}]))

    def do_refuse(self, field: str) -> bool:
        if field not in self.body:
            return False
        message = f"Unsupported parameter: '{field}' is not supported with this model."
        self.answer(
            400,
            json.dumps(
                {"error": {"message": message, "param": field, "type": "invalid_request_error"}}
            ).encode(),
        )
        return True

    def complain(self, status: int, message: str, **more: str) -> bool:
        self.answer(status, json.dumps({"error": {"message": message, **more}}).encode())
        return True

    def do_norole(self, role: str) -> bool:
        if all(message["role"] != role for message in self.body["messages"]):
            return False
        return self.complain(400, f"messages[0].role: {role} is not one of {ROLES_TAKEN - {role}}")

    def do_nostream(self) -> bool:
        if self.body.get("stream"):
            return self.complain(
                400, "The organization must be verified to stream this model.", param="stream"
            )
        return (
            self.complain(400, "stream_options", param="stream_options")
            if "stream_options" in self.body
            else self.do_json()
        )

    def do_limit(self, most: str) -> bool:
        if self.body.get("max_tokens", 0) <= int(most):
            return False
        return self.complain(
            400, f"max_tokens is too large. This model supports at most {most} completion tokens."
        )

    def do_unknown(self) -> bool:
        return self.complain(404, f"The model `{self.body['model']}` does not exist.", code="model_not_found")

    def do_quota(self) -> bool:
        return self.complain(429, "You exceeded your current quota.", code="insufficient_quota")

    def do_echo(self) -> bool:
        message = f"I was sent {self.headers.get('Authorization')}"
        self.answer(400, json.dumps({"error": {"message": message}}).encode())
        return True

    def do_flaky(self, times: str, status: str) -> bool:
        with self.server.lock:
            count = self.server.times[self.path] = self.server.times.get(self.path, 0) + 1
        if count > int(times):
            return False
        self.refuse(int(status), [])
        return True

    def do_turn(self, place: str, of: str, length: str) -> bool:
        with self.server.lock:
            count = self.server.times["turn"] = self.server.times.get("turn", -1) + 1
        if count // int(length) % int(of) != int(place):
            return False
        if count % 3 == 1:
            return self.do_drop()
        self.refuse(500 if count % 3 else 429, [])
        return True

    def hang(self) -> bool:
        """Until the client hangs up, which is remembered; at most half a minute."""
        self.connection.settimeout(30)
        try:
            self.record["gone"] = not self.connection.recv(1)
        except OSError:
            self.record["gone"] = True
        self.close_connection = True
        return True

    def do_silent(self) -> bool:
        return self.hang()

    def first(self, count: str) -> None:
        self.begin()
        for index, chunk in enumerate(self.chunks()):
            if index > int(count):  # the first chunk holds the role only
                return
            self.event(chunk)

    def do_stall(self, count: str) -> bool:
        self.first(count)
        return self.hang()

    def do_cut(self, count: str) -> bool:
        self.first(count)
        return self.do_drop()

    def do_end(self, count: str) -> bool:
        self.first(count)
        self.end()
        return True

    def do_error(self, count: str) -> bool:
        self.first(count)
        self.event({"error": {"message": "the model fell over", "code": 503}})
        self.end()
        return True

    def do_drop(self) -> bool:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def do_html(self) -> bool:
        self.answer(200, b"<!DOCTYPE html><title>Log in to the hotel</title>", {"Content-Type": "text/html"})
        return True

    def do_text(self) -> bool:
        self.answer(200, b"hello there", {"Content-Type": "text/plain"})
        return True

    def do_badjson(self) -> bool:
        return self.stream(iter(['{"choices": [']))

    def do_notutf8(self) -> bool:
        self.begin()
        self.raw(b'data: {"choices": "\xff\xfe"}\n\n')
        self.end()
        return True

    def do_shape(self) -> bool:
        return self.stream(iter([{"choices": [{"delta": {"content": 7}}]}]))

    def do_nothttp(self) -> bool:
        self.close_connection = True
        self.wfile.write(b"220 mail.example.org ready\r\n\r\n")
        return True

    def do_moved(self) -> bool:
        port = self.server.server_address[1]
        self.answer(307, b"", {"Location": f"http://localhost:{port}/ok/{self.rest}"})
        return True


def main() -> None:
    server = Server()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # ends with the process that started it


if __name__ == "__main__":
    main()
