#!/usr/bin/env bash
# uvicorn 0.54.0 with h11 0.16.0, seen 2026-11-30.
#
# One would guess: a client that has sent its whole request and then shuts down its sending side (as `nc -N`, many
# shell scripts and some embedded HTTP clients do) still gets its answer; TCP and HTTP/1.1 allow that.
# What happens: uvicorn takes the end of the client's stream for the end of the client. The application sees a
# disconnect and the client gets no answer where that takes a moment, as a model's does. The same request with the
# sending side left open is answered.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0
cat > "$work/look.py" <<'PYTHON'
import asyncio, socket, threading
import uvicorn


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await asyncio.sleep(0.3)  # a model thinks
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="error", http="h11", lifespan="off"))
threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
while not server.started:
    pass


def ask(half_closed):
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        found = b""
        while piece := client.recv(4096):
            found += piece
        return found


whole, half = ask(False), ask(True)
print("sending side left open:", whole[-2:], "of", len(whole), "bytes")
print("sending side shut down:", half)
server.should_exit = True
assert whole.endswith(b"hi") and half == b""
PYTHON
"$work/venv/bin/python" "$work/look.py"
