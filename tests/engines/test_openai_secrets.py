"""The strong engine: what must not leave this machine, and what is told to nobody."""

import io
import logging
import threading
import traceback

import pytest

from edge_router.config import Config, StrongConfig
from edge_router.engines.keys import Key, NoKey
from edge_router.engines.openai import OpenAIEngine, load
from edge_router.errors import EngineUnavailable, StrongError, StrongUnreachable
from edge_router.types import ChatRequest, Message, SilentProgress

SECRET = "sk-very-secret-0123456789"
ANSWER = "strong: hi · ça va\u2028end"


def ask(**fields):
    return ChatRequest((Message("user", "hi"),), **fields)


def run(engine, request=None):
    return list(engine.stream(request or ask(), threading.Event()))


def text_of(deltas):
    return "".join(delta.text for delta in deltas).strip()


def failure(engine, request=None):
    with pytest.raises(StrongError) as caught:
        run(engine, request)
    return caught.value


def test_offline_and_private_requests_never_reach_it(make, strong_server):
    assert isinstance(failure(make(strong_server.url(), offline=True)), StrongUnreachable)
    assert "private" in str(failure(make(strong_server.url()), ask(private=True)))
    assert strong_server.requests() == []


def shown_of(error):
    return "".join(traceback.format_exception(error)) + str(error) + repr(error) + repr(vars(error))


@pytest.mark.parametrize("script", ["ok", "echo", "401", "500", "cut-1", "badjson", "silent", "moved"])
def test_the_key_is_told_nowhere(make, strong_server, script, monkeypatch):
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    root.addHandler(handler)
    monkeypatch.setattr(root, "level", logging.DEBUG)
    for name in ("openai", "httpx", "httpcore"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
    engine = make(strong_server.url(script), key=Key(SECRET, "here"), max_retries=1)
    try:
        text = repr(run(engine))
    except StrongError as error:
        text = shown_of(error)
    finally:
        root.removeHandler(handler)
    assert strong_server.requests()[0]["headers"]["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in text + repr(engine) + log.getvalue()


def test_a_server_that_repeats_the_key_is_quoted_without_it(make, strong_server):
    error = failure(make(strong_server.url("echo"), key=Key(SECRET, "here")))
    assert error.message == "I was sent Bearer [key]"
    assert error.__cause__ is None and error.__context__ is None


def test_credentials_in_the_address_are_used_but_not_shown(make, strong_server):
    url = strong_server.url("echo").replace("http://", "http://me:pass-word@") + "?version=2"
    error = failure(make(url))
    assert error.endpoint == strong_server.url("echo")
    assert "pass-word" not in shown_of(error) and "bWU6cGFzcy13b3Jk" not in shown_of(error)
    (seen,) = strong_server.requests()
    assert seen["headers"]["authorization"] == "Basic bWU6cGFzcy13b3Jk"
    assert seen["path"] == "/echo/v1/chat/completions?version=2"


def test_a_redirect_is_followed_but_the_key_stays(make, strong_server):
    assert text_of(run(make(strong_server.url("moved"), key=Key(SECRET, "here"), timeout_s=5))) == ANSWER
    first, second = strong_server.requests()
    assert "authorization" in first["headers"] and "authorization" not in second["headers"]


def test_what_the_environment_says_of_openai_is_for_openai_alone(make, strong_server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.invalid/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    run(make(strong_server.url()))
    (seen,) = strong_server.requests()
    assert not {"openai-organization", "openai-project"} & set(seen["headers"])


def test_a_proxy_of_the_environment_is_used(make, strong_server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", strong_server.address)
    monkeypatch.setenv("http_proxy", strong_server.address)
    assert text_of(run(make("http://somewhere.invalid/ok/v1"))) == ANSWER
    assert strong_server.requests()[0]["path"] == "http://somewhere.invalid/ok/v1/chat/completions"


# ---- keys


def test_what_cannot_be_a_key_is_not_sent(make, strong_server):
    engine = make(strong_server.url(), key=Key("sk with spaces\x00", "the file"))
    with pytest.raises(EngineUnavailable) as caught:
        run(engine)
    assert "the file" in str(caught.value) and "sk with" not in shown_of(caught.value)
    assert strong_server.requests() == []


def test_a_refused_key_is_looked_up_anew(strong_server):
    keys = iter([Key("old", "a"), Key("new", "b")])
    config = StrongConfig(base_url=strong_server.url("flaky-1-401"), model="remote")
    engine = OpenAIEngine(config, keys=lambda _: next(keys))
    assert failure(engine).key_source == "a"
    assert text_of(run(engine)) == ANSWER
    run(engine)
    engine.close()
    sent = [seen["headers"]["authorization"] for seen in strong_server.requests()]
    assert sent == ["Bearer old", "Bearer new", "Bearer new"]


def test_a_keyring_that_does_not_answer_is_asked_once(strong_server):
    asked = []

    def keys(config):
        asked.append(config)
        return NoKey("hangs")

    engine = OpenAIEngine(StrongConfig(base_url=strong_server.url("401"), model="remote"), keys=keys)
    failure(engine)
    failure(engine)
    engine.close()
    assert len(asked) == 1


def test_the_key_of_the_environment(strong_server, monkeypatch, paths):
    monkeypatch.setenv("MY_KEY", SECRET)
    overrides = {"base_url": strong_server.url(), "model": "m", "api_key_env": "MY_KEY"}
    config = Config.load(overrides={f"strong.{name}": value for name, value in overrides.items()})
    engine = load(config, paths, SilentProgress())
    run(engine)
    engine.close()
    assert strong_server.requests()[0]["headers"]["authorization"] == f"Bearer {SECRET}"
