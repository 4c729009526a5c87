"""What rules and the guard say, over HTTP: headers, and errors in each protocol's own form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_router.system.paths import Paths

KEY = "sk-proj-" + "aB3" * 8
RULES = """
[[rule]]
name = "Büro"
program = "zed"
then = "strong"
[[rule]]
name = "customers"
words = "acme"
then = "local_only"
[[rule]]
name = "bombs"
words = "bomb"
then = "block"
"""


def told(reply: Any) -> dict[str, str]:
    prefix = "x-edge-router-"
    return {name.removeprefix(prefix): value for name, value in reply.headers if name.startswith(prefix)}


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def test_headers_say_what_had_a_say(setup: Callable[..., Any], paths: Paths) -> None:
    paths.rules.write_text(RULES, encoding="utf-8")
    kept = setup().call(body=chat(f"a hard one: {KEY}"))
    assert kept.status == 200 and told(kept)["reason"] == "guard"
    assert told(kept)["found"] == "a key or password (OpenAI)"
    assert told(setup().call(body=chat("hard, of Acme")))["rule"] == "customers"
    headers = [("host", "localhost"), ("user-agent", "Zed/1.0 (macOS)")]
    zed = told(setup().call(body=chat("Why?", stream=True), headers=headers))
    assert (zed["model"], zed["reason"], zed["rule"]) == ("strong", "rule", "B\\xfcro")
    assert "rule" not in told(setup().call(body=chat("Why?")))


def test_refusals_are_errors_of_the_protocol(setup: Callable[..., Any], paths: Paths) -> None:
    paths.rules.write_text(RULES, encoding="utf-8")
    for path, body in (
        ("/v1/chat/completions", {}),
        ("/v1/messages", {"max_tokens": 9}),
        ("/api/chat", {"stream": False}),
    ):
        served = setup()
        named = served.call(path=path, body=chat(KEY, model="strong", **body))
        bomb = served.call(path=path, body=chat("a bomb", model="auto", **body))
        assert (named.status, bomb.status) == (403, 403), path
        assert b"it holds a key or password (OpenAI)" in named.body and KEY.encode() not in named.body, path
        assert b"the rule 'bombs' lets nobody answer this" in bomb.body, path
        assert served.strong.calls == served.weak.calls == [], path
