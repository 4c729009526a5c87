#!/usr/bin/env bash
# openai-agents 0.24.0 over the Responses API (openai 3.57.0), seen 2026-11-30.
#
# One would guess: an answer that ends at its limit of tokens (status "incomplete", reason "max_output_tokens") comes
# to the program with its text so far, as the same answer does over Chat Completions (finish_reason "length").
# What happens: over Chat Completions nothing tells that it was cut; over Responses it is a ModelBehaviorError, streamed
# (after the text has come) or not, so that max_tokens makes runs fail that were fine without it.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check openai-agents==0.24.0 openai==3.57.0
cat > look.py <<'PYTHON'
import asyncio
import http.server
import json
import threading

from agents import (
    Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, set_tracing_disabled,
)
from agents.exceptions import ModelBehaviorError
from openai import AsyncOpenAI

PART = {"type": "output_text", "text": "One, two", "annotations": []}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "incomplete", "content": [PART]}
USAGE = {
    "input_tokens": 3, "output_tokens": 4, "total_tokens": 7,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
}


def response(status, output, **more):
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "instructions": None,
        "metadata": {}, "temperature": 1.0, "top_p": 1.0, "incomplete_details": None, **more,
    }


CUT = response("incomplete", [ITEM], usage=USAGE, incomplete_details={"reason": "max_output_tokens"})
CHAT = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "One, two"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
EVENTS = [
    {"type": "response.created", "response": response("in_progress", [])},
    {"type": "response.output_item.added", "output_index": 0, "item": {**ITEM, "content": [], "status": "in_progress"}},
    {"type": "response.content_part.added", **PLACE, "part": {**PART, "text": ""}},
    {"type": "response.output_text.delta", **PLACE, "delta": "One, two", "logprobs": []},
    {"type": "response.output_text.done", **PLACE, "text": "One, two", "logprobs": []},
    {"type": "response.content_part.done", **PLACE, "part": PART},
    {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
    {"type": "response.incomplete", "response": CUT},
]


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/chat/completions"):
            kind, body = "application/json", json.dumps(CHAT)
        elif asked.get("stream"):
            kind = "text/event-stream"
            body = "".join(
                f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"
                for number, event in enumerate(EVENTS)
            )
        else:
            kind, body = "application/json", json.dumps(CUT)
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *words):
        pass


async def main(port):
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

    def agent(model):
        return Agent(name="a", model=model("m", client), model_settings=ModelSettings(max_tokens=4))

    chat = await Runner.run(agent(OpenAIChatCompletionsModel), "Count.")
    print("Chat Completions:", repr(chat.final_output))
    try:
        whole = (await Runner.run(agent(OpenAIResponsesModel), "Count.")).final_output
    except ModelBehaviorError as error:
        whole = error
    print("Responses, whole:", repr(whole))
    streamed, text, failure = Runner.run_streamed(agent(OpenAIResponsesModel), "Count."), "", None
    try:
        async for event in streamed.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                text += event.data.delta
    except ModelBehaviorError as error:
        failure = error
    print("Responses, streamed:", repr(text), "and then", repr(failure))
    assert chat.final_output == text == "One, two"
    assert isinstance(whole, ModelBehaviorError) and failure is not None


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
asyncio.run(main(server.server_address[1]))
PYTHON
venv/bin/python look.py
