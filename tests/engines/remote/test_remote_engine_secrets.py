"""The strong engine: what must not leave this machine, and what is told to nobody."""

import io
import logging
import threading
import traceback

import pytest

from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.config.sections import StrongConfig
from edge_router.config.settings import Config
from edge_router.engines.base import answered
from edge_router.engines.remote.engine import OpenAIEngine, load
from edge_router.engines.remote.keys import Key, NoKey
from edge_router.errors import EngineUnavailable, StrongError, StrongUnreachable
from edge_router.types import SilentProgress

SECRET = "sk-very-secret-0123456789"
ANSWER = "strong: hi · ça va\u2028end"


def ask(**fields):
    return ChatRequest((Message("user", "hi"),), **fields)


def run(engine, request=None):
    return list(answered(engine, request or ask(), threading.Event()))


def text_of(deltas):
    return collect(deltas).text.strip()


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


@pytest.fixture
def logged(monkeypatch):
    """Everything that anybody logs, as text."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    root.addHandler(handler)
    monkeypatch.setattr(root, "level", logging.DEBUG)
    logging.Logger.manager._clear_cache()
    yield log.getvalue
    root.removeHandler(handler)
    logging.Logger.manager._clear_cache()


OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
ECHOES = {
    "a header": OK + b"x-you-sent: %s\r\n\r\n",
    "the request's id": OK + b"x-request-id: %s\r\n\r\n",
    "a cookie": OK + b"set-cookie: key=%s\r\n\r\n",
    "the reason": b"HTTP/1.1 400 I was sent %s\r\ncontent-length: 0\r\n\r\n",
    "the address of a redirect": b"HTTP/1.1 307 Moved\r\nlocation: /v1/%s?key=%s\r\ncontent-length: 0\r\n\r\n",
    "another host's": b"HTTP/1.1 302 Moved\r\nlocation: http://%s:%s@localhost/%s?%s\r\ncontent-length: 0\r\n\r\n",
    "an error": b'HTTP/1.1 401 No\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"error": {"message": "%s"}}',
    "an error in the stream": OK
    + b'content-type: text/event-stream\r\n\r\ndata: {"error": {"message": "%s"}}\n\n',
    "a broken event": OK + b"content-type: text/event-stream\r\n\r\ndata: %s\n\n",
    "the content type": OK + b"content-type: %s\r\n\r\n",
    "what is no HTTP": b"%s\r\n\r\n",
    "the encoding": OK + b"content-encoding: %s\r\n\r\n",
}


@pytest.mark.parametrize("way", ECHOES)
def test_an_echoed_key_is_neither_shown_nor_logged(make, endpoint, logged, way):
    place = endpoint(lambda write, number: write(ECHOES[way].replace(b"%s", SECRET.encode())))
    engine = make(place.url, key=Key(SECRET, "here"), timeout_s=20)
    error = failure(engine)
    assert f"Bearer {SECRET}".encode() in place.heads[0]
    assert "receive_response_headers" in logged()
    assert SECRET not in shown_of(error) + logged()


def test_a_key_in_the_address_is_not_logged(make, endpoint, logged):
    place = endpoint(lambda write, number: write(OK + b"content-type: text/plain\r\n\r\n"))
    url = place.url.replace("http://", "http://me:pass-word@") + f"?code={SECRET}"
    error = failure(make(url, timeout_s=20))
    assert SECRET.encode() in place.heads[0]
    assert "code=[key]" in logged()
    for secret in (SECRET, "pass-word", "bWU6cGFzcy13b3Jk"):
        assert secret not in shown_of(error) + logged()


def test_a_closed_engine_leaves_nothing_on_the_loggers(make, strong_server):
    engine = make(strong_server.url())
    run(engine)
    assert logging.getLogger("openai._base_client").filters
    engine.close()
    ours = [
        logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)
    ]
    assert not [each for logger in ours for each in logger.filters if type(each).__name__ == "LogFilter"]


# ---- proxies and certificates of the environment


LOOPBACK_SETTINGS = [
    {"ALL_PROXY": "socks5://127.0.0.1:9"},
    {"ALL_PROXY": "socks://127.0.0.1:9"},
    {"HTTP_PROXY": "http://127.0.0.1:9"},
    {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": ""},
    {"HTTPS_PROXY": "nonsense://"},
    {"SSL_CERT_FILE": "/nowhere/ca.pem"},
    {"SSL_CERT_DIR": "/nowhere"},
]


@pytest.mark.parametrize("settings", LOOPBACK_SETTINGS, ids=str)
def test_an_endpoint_on_this_machine_needs_none_of_them(make, strong_server, monkeypatch, settings):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert text_of(run(make(strong_server.url()))) == ANSWER


@pytest.mark.integration
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ALL_PROXY": "socks4://me:pass-word@127.0.0.1:9"}, "ALL_PROXY names a proxy of the kind socks4"),
        ({"HTTPS_PROXY": "http://me:pass-word@host:port"}, "HTTPS_PROXY is not an address"),
        ({"https_proxy": "127.0.0.1:1"}, "by way of the proxy http://127.0.0.1:1 of https_proxy"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE names /nowhere/ca.pem, which is not there"),
    ],
)
def test_what_is_wrong_with_them_is_named(make, monkeypatch, settings, words):
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    error = failure(make("https://somewhere.invalid/v1"))
    assert isinstance(error, StrongUnreachable) and words in error.reason
    assert "pass-word" not in shown_of(error)


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
