"""The server as users have it: a process that is started, signalled and asked by other processes."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import openai
import pytest

HI: Any = [{"role": "user", "content": "hi"}]
SLOW: Any = [{"role": "user", "content": "slow"}]
HARD: Any = [{"role": "user", "content": "hard"}]
CTRL_C = signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGINT
SIGNALS = [CTRL_C] if sys.platform == "win32" else [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def test_two_servers_one_is_the_others_strong_model(
    program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = program("--key", "key-of-the-strong")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-strong")
    front = program("--strong", f"{behind.url}/v1")
    client = front.client()
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=HARD)
    assert raw.parse().choices[0].message.content == "You said: hard"
    assert raw.headers["x-edge-router-model"] == "strong"
    stream = client.chat.completions.create(
        model="strong", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "You said: hi"
    assert chunks[-1].usage.completion_tokens == 3
    with client.chat.completions.create(model="strong", messages=SLOW, stream=True) as left:
        for _, chunk in zip(range(4), left, strict=False):
            assert chunk.choices[0].delta.content is not None
    for one in (front, behind):
        one.process.send_signal(CTRL_C)
        status, out, err = one.wait()
        assert (status, out) == (0, "ended well\n")
        assert "key-of-the-strong" not in err and "Traceback" not in err


def test_a_strong_model_that_goes_away_is_replaced(program: Callable[..., Any]) -> None:
    behind = program()
    front = program("--strong", f"{behind.url}/v1")
    behind.process.kill()
    behind.wait()
    raw = front.client(timeout=60).chat.completions.with_raw_response.create(model="auto", messages=HARD)
    assert raw.headers["x-edge-router-model"] == "weak"
    assert raw.headers["x-edge-router-fallback"] == "StrongUnreachable"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_it_well(program: Callable[..., Any], number: signal.Signals) -> None:
    one = program("--key", "key-of-the-server")
    stream = one.client(api_key="key-of-the-server").chat.completions.create(
        model="auto", messages=SLOW, stream=True
    )
    next(iter(stream))
    one.process.send_signal(number)
    with pytest.raises(openai.APIError, match="shutting down"):
        list(stream)
    status, out, err = one.wait()
    assert (status, out) == (0, "ended well\n")
    assert "Traceback" not in err and "key-of-the-server" not in err
    assert "POST '/v1/chat/completions' 200" in err


def test_a_server_that_is_killed_is_no_answer(program: Callable[..., Any]) -> None:
    one = program()
    stream = one.client().chat.completions.create(model="auto", messages=SLOW, stream=True)
    next(iter(stream))
    one.process.kill()
    with pytest.raises((openai.APIError, OSError)):
        list(stream)


def test_a_busy_port_and_an_open_door(program: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = program("--port", str(other.getsockname()[1]))
        assert busy.url == "PortInUse"
        assert busy.wait()[0] == 1
    assert program("--host", "0.0.0.0").url == "UnsafeBind"


def test_it_starts_again_at_once_on_the_same_port(program: Callable[..., Any]) -> None:
    first = program()
    assert first.client().models.list().data
    first.process.send_signal(CTRL_C)
    assert first.wait()[0] == 0
    port = first.url.rpartition(":")[2]
    assert program("--port", port).client().models.list().data
