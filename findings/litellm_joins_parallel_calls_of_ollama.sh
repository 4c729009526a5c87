#!/usr/bin/env bash
# litellm 1.110.2, model `ollama_chat/...` (Python 3.11), seen 2026-11-30.
#
# One would guess: two tool calls that an Ollama server streams, each in a line of its own and with its number in
# `function.index`, as Ollama does, come out as two calls: index 0 and index 1.
# What happens: calls are numbered from 0 within each line and `function.index` is not read, so both have index 0; ids
# that the server gave are replaced. Whoever joins pieces by index, as clients of OpenAI's form do and litellm's own
# stream_chunk_builder does, gets one call whose arguments are two objects in a row, which is no JSON. (Its issue 33678,
# open, tells the same of an earlier version.) Calls that come in one line are told apart: a server can send them so.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile litellm==1.110.2
cat > "$work/look.py" <<'PYTHON'
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CALLS = [{"id": f"call_{city}", "function": {"index": index, "name": "weather", "arguments": {"city": city}}}
         for index, city in enumerate(["Rome", "Oslo"])]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


class Ollama(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        if self.path == "/api/chat":
            for calls in lines:
                self.line(tool_calls=calls)
            self.line(done=True)
        else:  # /api/show, which litellm asks first
            self.wfile.write(b'{"template": "", "model_info": {}}')

    def line(self, done=False, **message):
        line = {"model": "m", "created_at": "2026-11-30T00:00:00Z", "done": done,
                "message": {"role": "assistant", "content": ""} | message}
        self.wfile.write(json.dumps(line | ({"done_reason": "stop"} if done else {})).encode() + b"\n")

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Ollama)
threading.Thread(target=server.serve_forever, daemon=True).start()
import litellm

litellm.suppress_debug_info = True


def joined():
    pieces = list(litellm.completion(
        "ollama_chat/m", [{"role": "user", "content": "Weather in Rome and Oslo?"}], tools=[TOOL], stream=True,
        api_base=f"http://127.0.0.1:{server.server_port}"))
    numbers = [call.index for piece in pieces for call in piece.choices[0].delta.tool_calls or []]
    made = litellm.stream_chunk_builder(pieces).choices[0].message.tool_calls
    print(len(lines), "line(s): index", numbers, "joined to", [call.function.arguments for call in made])
    return numbers, len(made)


lines = [CALLS[:1], CALLS[1:]]
apart = joined()
lines = [CALLS]
together = joined()
assert apart == ([0, 0], 1) and together == ([0, 1], 2)
PYTHON
LITELLM_LOCAL_MODEL_COST_MAP=True "$work/venv/bin/python" "$work/look.py"
