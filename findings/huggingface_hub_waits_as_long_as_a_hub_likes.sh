#!/usr/bin/env bash
# huggingface_hub 2.4.0 with httpx2 2.16.2 (Python 3.11), seen 2026-11-30.
#
# One would guess: calls that ask a hub give up after some time, as hf_hub_download's first question does (10 s), and
# a `Retry-After` is kept to within the library's own `max_wait_time` of 8 s.
# What happens: `HfApi.repo_info` and its kin have timeout=None, and the shared client has none of its own, so a hub
# that accepts a connection and says nothing is waited for without end. And a download whose hub answers 429 sleeps for
# what `Retry-After` says, and a second more, before each of five more tries, however long that is; nothing is raised
# or shown meanwhile. Here the hub asks for 9 s, once, which is more than max_wait_time.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0 httpx2==2.16.2
cat > "$work/look.py" <<'PYTHON'
import inspect, os, tempfile, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.command)
        busy = self.command == "GET" and asked.count("GET") == 1
        self.send_response(429 if busy else 200)
        for name, value in {"ETag": '"x"', "X-Repo-Commit": "c", "Content-Length": "0" if busy else "2"}.items():
            self.send_header(name, value)
        if busy:
            self.send_header("Retry-After", "9")
        self.end_headers()
        if self.command == "GET" and not busy:
            self.wfile.write(b"hi")

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_TELEMETRY": "1"}
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils import get_session
from huggingface_hub.utils._http import http_backoff

given = inspect.signature(HfApi.repo_info).parameters["timeout"].default
longest = inspect.signature(http_backoff).parameters["max_wait_time"].default
print("repo_info waits for", given, "and its client for", get_session().timeout)
with tempfile.TemporaryDirectory() as folder:
    begun = time.monotonic()
    hf_hub_download("a/b", "c.txt", local_dir=folder)
    took = time.monotonic() - begun
print(f"max_wait_time is {longest} s; a hub that asked for 9 s was waited for {took:.1f} s")
assert given is None and get_session().timeout.read is None and took > 9 > longest
PYTHON
"$work/venv/bin/python" "$work/look.py"
