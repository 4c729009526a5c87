#!/usr/bin/env bash
# langchain-ollama 1.1.0 with ollama 0.6.3 (Python 3.11), seen 2026-11-30.
#
# One would guess: a tool's result reaches an Ollama server with what says whose result it is: the `tool_call_id` that
# each ToolMessage must have, or its `name` as the `tool_name` that Ollama's protocol has for this.
# What happens: `tool_call_id` is handed to ollama's Message, which does not know it and leaves it out, as it does with
# the calls' own ids; `name` is not handed on. The server sees results with content alone and can only count: results
# that are given in another order than their calls (the quicker tool first) are taken for each other's, also where the
# tools differ. ollama's own Message(tool_name=...) is sent.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check langchain-ollama==1.1.0 ollama==0.6.3
cat > "$work/look.py" <<'PYTHON'
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sent = []


class Ollama(BaseHTTPRequestHandler):
    def do_POST(self):
        sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"])
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        answer = {"model": "m", "created_at": "2026-11-30T00:00:00Z", "done": True, "done_reason": "stop",
                  "message": {"role": "assistant", "content": "Take a coat."}}
        self.wfile.write(json.dumps(answer).encode() + b"\n")

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Ollama)
threading.Thread(target=server.serve_forever, daemon=True).start()
here = f"http://127.0.0.1:{server.server_port}"
import ollama
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama

ChatOllama(model="m", base_url=here).invoke([
    HumanMessage("How high and how warm is Oslo?"),
    AIMessage("", tool_calls=[{"id": "call_1", "name": "height", "args": {"city": "Oslo"}},
                              {"id": "call_2", "name": "warmth", "args": {"city": "Oslo"}}]),
    ToolMessage("-3", tool_call_id="call_2", name="warmth"),
    ToolMessage("23", tool_call_id="call_1", name="height"),
])
ollama.Client(here).chat("m", [ollama.Message(role="tool", tool_name="warmth", content="-3")])
(_, calls, *results), [named] = sent
print("sent by langchain-ollama:", json.dumps(calls["tool_calls"]), *map(json.dumps, results), sep="\n  ")
print("sent by ollama itself:", json.dumps(named), sep="\n  ")
assert [set(call) for call in calls["tool_calls"]] == [{"function"}, {"function"}]
assert results == [{"role": "tool", "content": "-3"}, {"role": "tool", "content": "23"}]
assert named["tool_name"] == "warmth"
PYTHON
"$work/venv/bin/python" "$work/look.py"
