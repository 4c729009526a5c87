#!/usr/bin/env bash
# Claude Code 2.1.197 (npm @anthropic-ai/claude-code, Linux x86-64), seen 2026-11-30.
#
# One would guess: an answer's `model` is for show. A router may name the model that really answered there, and a
# gateway the dated snapshot behind an alias; the thoughts that came with a tool call, and their signature, are sent
# back with the tool's result, as the API's rules for thinking ask.
# What happens: thoughts are sent back only where `model` is to the letter the name that was asked for. With any other
# name, a dated one of the same model too, the call goes back without them and without a word: a model that has to go
# on after its tool call no longer knows why it made it.
# Nothing leaves the machine: the key is none, the home is a folder made here, and all but loopback is sent to a proxy
# that refuses.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.197
cat > look.py <<'PYTHON'
import json, os, pathlib, subprocess, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ASKED = "claude-sonnet-4-5"
THOUGHT = ({"type": "thinking", "thinking": "", "signature": ""},
           {"type": "thinking_delta", "thinking": "The note says."},
           {"type": "signature_delta", "signature": "c2ln"})
CALL = ({"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"file_path": "note.txt"}'})
TEXT = ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Done."})
asked = []


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        reason, blocks = ("tool_use", [THOUGHT, CALL]) if len(asked) == 1 else ("end_turn", [TEXT])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": answers, "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        self.event("message_start", message=message)
        for index, (block, *deltas) in enumerate(blocks):
            self.event("content_block_start", index=index, content_block=block)
            for delta in deltas:
                self.event("content_block_delta", index=index, delta=delta)
            self.event("content_block_stop", index=index)
        self.event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 2})
        self.event("message_stop")

    def event(self, kind, **fields):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode())

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
here = f"http://127.0.0.1:{server.server_port}"
found = {}
for answers in ASKED, ASKED + "-20250929", "some-local-model":
    home = pathlib.Path(answers).absolute()
    home.mkdir()
    (home / "note.txt").write_text("hi\n")
    asked.clear()
    subprocess.run(
        [os.path.abspath("node_modules/.bin/claude"), "-p", "What is in note.txt?", "--model", ASKED],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "ANTHROPIC_API_KEY": "none",
             "ANTHROPIC_BASE_URL": here, "HTTPS_PROXY": here, "HTTP_PROXY": here, "NO_PROXY": "127.0.0.1",
             "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=100,
    )
    [turn] = [message for message in asked[1]["messages"] if message["role"] == "assistant"]
    found[answers] = [block["type"] for block in turn["content"]]
    print(f"asked for {ASKED}, answered as {answers}: sent back {found[answers]}")
same, dated, other = found.values()
assert same == ["thinking", "tool_use"] and dated == other == ["tool_use"]
PYTHON
python3 look.py
