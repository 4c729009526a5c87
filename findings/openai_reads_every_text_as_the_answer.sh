#!/usr/bin/env bash
# openai 3.57.0 (Python 3.11), seen 2026-11-30.
#
# One would guess: with tools and `text_format=Model`, `responses.parse` and `responses.stream` read the answer's text
# as JSON; what a model writes before it calls a tool ("Let me look.") is not the answer, for the turn goes on.
# What happens: each message of the output is read, one before a call too, and pydantic's ValidationError, which is no
# OpenAIError, is raised: by `parse` after the whole reply has come, by `stream` in its midst, before the call. The call
# is lost either way. It is spared only where the server marks the message with `phase: "commentary"`, a field that
# servers which follow the API's older form do not send.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
cat > "$work/look.py" <<'PYTHON'
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PART = {"type": "output_text", "text": "Let me look.", "annotations": []}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "status": "completed",
        "arguments": '{"city": "Rome"}'}


def response(status, output):
    return {"id": "resp_1", "object": "response", "created_at": 0, "model": "m", "status": status, "output": output,
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [PART]} | mark
        whole = response("completed", [message, CALL])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if body.get("stream") else "application/json")
        self.end_headers()
        if not body.get("stream"):
            self.wfile.write(json.dumps(whole).encode())
            return
        text, call = {"output_index": 0, "item_id": "msg_1", "content_index": 0}, {"output_index": 1, "item_id": "fc_1"}
        for number, (kind, fields) in enumerate([
            ("created", {"response": response("in_progress", [])}),
            ("output_item.added", {"output_index": 0, "item": message | {"status": "in_progress", "content": []}}),
            ("content_part.added", text | {"part": PART | {"text": ""}}),
            ("output_text.delta", text | {"delta": PART["text"], "logprobs": []}),
            ("output_text.done", text | {"text": PART["text"], "logprobs": []}),
            ("content_part.done", text | {"part": PART}),
            ("output_item.done", {"output_index": 0, "item": message}),
            ("output_item.added", {"output_index": 1, "item": CALL | {"status": "in_progress", "arguments": ""}}),
            ("function_call_arguments.delta", call | {"delta": CALL["arguments"]}),
            ("function_call_arguments.done", call | {"name": CALL["name"], "arguments": CALL["arguments"]}),
            ("output_item.done", {"output_index": 1, "item": CALL}),
            ("completed", {"response": whole}),
        ]):
            data = {"type": f"response.{kind}", "sequence_number": number} | fields
            self.wfile.write(f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode())

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
import openai, pydantic


class Weather(pydantic.BaseModel):
    degrees: int


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
question = {"model": "m", "input": "How is the weather in Rome?", "text_format": Weather,
            "tools": [{"type": "function", "name": "weather", "strict": True, "parameters": CITY}]}
client = openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0)


def parsed():
    return client.responses.parse(**question)


def streamed():
    with client.responses.stream(**question) as stream:
        return stream.get_final_response()


def look(ask):
    try:
        return [item.type for item in ask().output]
    except pydantic.ValidationError as error:
        return f"ValidationError at {error.errors()[0]['input']!r}, an OpenAIError: {isinstance(error, openai.OpenAIError)}"


found = []
for mark in {}, {"phase": "commentary"}:
    for ask in parsed, streamed:
        found.append(look(ask))
        print(f"{ask.__name__}, message marked {mark}: {found[-1]}")
lost = "ValidationError at 'Let me look.', an OpenAIError: False"
assert found == [lost, lost, ["message", "function_call"], ["message", "function_call"]]
PYTHON
"$work/venv/bin/python" "$work/look.py"
