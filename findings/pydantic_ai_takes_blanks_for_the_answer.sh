#!/usr/bin/env bash
# pydantic-ai-slim 2.68.0 with openai 3.57.0 (Python 3.11), seen 2026-11-30.
#
# One would guess: an agent's `run_stream` goes on after a tool call as its `run` does. That it takes the first text of
# a reply for the answer can be read in its manual; but a text of line breaks, as many small models write before a
# call, is none: the library itself passes over such a text for some makers' models.
# What happens: for a server of OpenAI's form that is given as such (OpenAIProvider, whatever the model's name, "qwen3"
# too) the two line breaks are the answer. The tool is run, but no model sees its result. With
# ignore_streamed_leading_whitespace in the model's profile, or a server that leaves the blanks out, it goes on.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "pydantic-ai-slim[openai]==2.68.0" openai==3.57.0
cat > "$work/look.py" <<'PYTHON'
import asyncio, json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
asked = 0


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        global asked
        asked += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["messages"][-1]["role"] == "tool":
            deltas, reason = [{"content": "Sunny."}], "stop"
        else:
            deltas, reason = [{"content": before}] * bool(before) + [{"tool_calls": [CALL]}], "tool_calls"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta in deltas:
            self.chunk(body["model"], {"role": "assistant"} | delta, None)
        self.chunk(body["model"], {}, reason)
        self.wfile.write(b"data: [DONE]\n\n")

    def chunk(self, model, delta, reason):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider


async def look(name, **options):
    global asked
    asked = 0
    provider = OpenAIProvider(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
    agent = Agent(OpenAIChatModel("qwen3", provider=provider, **options))
    calls = []

    @agent.tool_plain
    def weather(city: str) -> str:
        calls.append(city)
        return "sunny"

    async with agent.run_stream("How is the weather in Rome?") as run:
        answer = await run.get_output()
    print(f"{name}: answer {answer!r}, tool run {len(calls)} time(s), model asked {asked} time(s)")
    return answer, calls, asked


before = ""
assert asyncio.run(look("nothing before the call")) == ("Sunny.", ["Rome"], 2)
before = "\n\n"
assert asyncio.run(look("two line breaks before it")) == ("\n\n", ["Rome"], 1)
told = OpenAIModelProfile(ignore_streamed_leading_whitespace=True)
assert asyncio.run(look("the same, told to ignore them", profile=told)) == ("Sunny.", ["Rome"], 2)
PYTHON
"$work/venv/bin/python" "$work/look.py"
