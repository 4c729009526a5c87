#!/usr/bin/env bash
# Claude Code 2.1.197 (npm @anthropic-ai/claude-code, Linux x86-64), seen 2026-11-30.
#
# One would guess: its system prompt and tools, 70,000 characters, are the same in each new conversation of a folder,
# so a local server that keeps the cache of a common prefix reads them once.
# What happens: the system prompt's first block is a line for its makers (an attribution header), and the last part of
# the version in it depends on the first question. Two conversations differ from the 48th character on, and all that
# follows is read anew for each, which takes minutes where a processor does it.
# With CLAUDE_CODE_ATTRIBUTION_HEADER=0 in Claude Code's environment the line is gone, and system prompt and tools are
# the same to the byte. A server whose users did not set that has to leave the line out before it looks into its cache.
# Nothing leaves the machine: the key is none, the home is a folder made here, and all but loopback is sent to a proxy
# that refuses.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund @anthropic-ai/claude-code@2.1.197
cat > look.py <<'PYTHON'
import json, os, pathlib, subprocess, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "stop_reason": None,
           "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
asked = []


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked.append(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.event("message_start", message=MESSAGE | {"model": body["model"]})
        self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Done."})
        self.event("content_block_stop", index=0)
        self.event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 1})
        self.event("message_stop")

    def event(self, kind, **fields):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode())

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
here, home = f"http://127.0.0.1:{server.server_port}", pathlib.Path("home").absolute()
home.mkdir()


def prefixes(**more):
    """The system prompts and the tools that two conversations begin with."""
    asked.clear()
    for question in "Please count the files here.", "What does this project do?":
        subprocess.run(
            [os.path.abspath("node_modules/.bin/claude"), "-p", question],
            env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "ANTHROPIC_API_KEY": "none",
                 "ANTHROPIC_BASE_URL": here, "HTTPS_PROXY": here, "HTTP_PROXY": here, "NO_PROXY": "127.0.0.1",
                 "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"} | more,
            cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=100,
        )
    return [("".join(block["text"] for block in body["system"]), json.dumps(body["tools"])) for body in asked]


def common(one, other):
    return len(os.path.commonprefix([one, other]))


(first, tools), (second, same_tools) = prefixes()
print("two conversations begin with:", first[:75], second[:75], sep="\n")
print("system prompts in common:", common(first, second), "of", len(first), "characters; tools:", len(tools))
(plain, _), (other, _) = bare = prefixes(CLAUDE_CODE_ATTRIBUTION_HEADER="0")
print("without the header:", common(plain, other), "of", len(plain))
assert common(first, second) < len(first) // 100 and tools == same_tools and bare[0] == bare[1]
PYTHON
python3 look.py
