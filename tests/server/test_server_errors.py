"""Every error of ours has a status, an OpenAI body and a next step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from table import each

from edge_router import errors as e
from edge_router.cli.terminal.sentences import sentence
from edge_router.server.errors import REFUSALS, RULES, failure, refusal, rule, unexpected
from edge_router.surfaces.openai.encode import error_body


def tree(root: type[e.EdgeRouterError]) -> Iterator[type[e.EdgeRouterError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == e.__name__:
            yield from tree(kind)


X = "http://127.0.0.1:1/v1"
EXAMPLES: dict[type[e.EdgeRouterError], tuple[Any, ...]] = {
    e.InvalidRequest: ("stop", "must be a string"),
    e.ContextOverflow: (5000, 4096),
    e.StateOverflow: (5000, 4096),
    e.UnsupportedRequest: ("tools", "the weak model calls no tools"),
    e.InternalError: ("weak model", "TypeError", "engine.py:7"),
    e.Blocked: ("customers", "Ask the desk."),
    e.InvalidRules: ("rules.toml", "then is missing", "3"),
    e.UnknownName: ("router", "mff", ("mf",), ("mf",)),
    e.UnknownModel: ("gpt", ("auto",)),
    e.CannotCalibrate: ("small", "its chat template tells of no tools"),
    e.UnknownResponse: ("response_id", "resp_1"),
    e.PreviousResponseGone: ("previous_response_id", "resp_1"),
    e.ConfigError: ("weak.threads", 0, "must be at least 1"),
    e.UnsupportedArchitecture: ("mamba", ("llama",)),
    e.UnsupportedTarget: ("llvm", "no such feature"),
    e.InvalidModel: ("model", "no config.json"),
    e.InvalidRouter: ("router", "not ONNX"),
    e.InvalidData: ("data", "no column"),
    e.InvalidLabels: ("data", "no answer"),
    e.DuplicateName: ("router", "mf", ("a", "b")),
    e.PluginFailed: ("g", "n", "o", "ImportError"),
    e.ProviderUnavailable: ("webgpu", "it finds no GPU here"),
    e.MissingExtra: ("torch", "train", "training"),
    e.WeightsUnavailable: ("w", "no network"),
    e.WeightsAmbiguous: ("hf:a/b", ["m-Q4_0.gguf"], ["hf:a/b:Q4_0"]),
    e.WeightsCorrupt: (Path("w"), "a", "b"),
    e.ArtifactMissing: ("small", "library"),
    e.ArtifactCorrupt: (Path("a"), "half"),
    e.BuildFailed: ("small", "link", "no"),
    e.LinkerMissing: ("small", ("cc",)),
    e.DiskFull: (Path("d"),),
    e.NotWritable: (Path("d"),),
    e.LockTimeout: (Path("d"), 5.0),
    e.EngineUnavailable: ("tvm", "no library"),
    e.OutOfMemory: ("tvm", "no room"),
    e.EngineRestarting: ("mlc", "its process has ended with status -9", 4.0),
    e.LocalServerDown: ("http://127.0.0.1:11434", "Connection refused"),
    e.ServedModelMissing: ("a", "Ollama", "http://127.0.0.1:11434", ("b",)),
    e.GenerationFailed: ("tvm", "NaN"),
    e.LowConfidence: (0.2, 0.5, 8),
    e.TemplateError: ("small", "roles"),
    e.StrongError: (X, "broke"),
    e.StrongUnreachable: (X, "refused"),
    e.StrongTimeout: (X, 60.0),
    e.StrongRedirected: (X, 307, X),
    e.StrongUnauthorized: (X, 401, "OPENAI_API_KEY"),
    e.StrongRateLimited: (X, 1.2),
    e.StrongPaused: (X, "each endpoint is at its limit", 4.0),
    e.BudgetSpent: (20.0,),
    e.ModelNotAllowed: ("strong", ("weak", "auto")),
    e.CallerLimited: ("requests a minute", 10, 4.2),
    e.StrongQuotaExceeded: (X, 402, "no credits"),
    e.StrongRefused: (X, 404, "model", "no such model"),
    e.StrongFailed: (X, 500, "broke"),
    e.StrongInterrupted: (X, "cut"),
    e.StrongGarbled: (X, "not JSON"),
    e.StrongEmpty: (X,),
    e.PortInUse: ("127.0.0.1", 6060),
    e.UnsafeBind: ("0.0.0.0",),
    e.NoServer: (X, "refused", "claude"),
    e.ServerKeyRefused: (X, "EDGE_ROUTER_API_KEY", False, "claude"),
    e.InvalidClientFile: ("claude", Path("f"), "is no plain JSON"),
    e.ClientNotConfigured: ("llm", Path("f")),
}


@each("kind", list(tree(e.EdgeRouterError)))
def test_every_error_can_be_told(kind: type[e.EdgeRouterError]) -> None:
    error = kind(*EXAMPLES.get(kind, ()))
    told = failure(error)
    assert 400 <= told.status <= 504
    assert set(error_body(told)) == {"error"}
    assert told.message.startswith(str(error).rstrip(" ."))
    assert told.message.endswith(".") and not told.message.endswith("..")
    assert len(told.message) > len(str(error)) + 10 or kind is e.InvalidRequest, "no next step"
    assert told.code
    nearest = next(parent for parent in kind.__mro__ if parent in RULES)
    assert nearest is not e.EdgeRouterError or kind is nearest, "has no rule of its own kind"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (e.InvalidRequest, 400, "invalid_request"),
        (e.ContextOverflow, 400, "context_length_exceeded"),
        (e.UnknownModel, 404, "model_not_found"),
        (e.UnknownName, 404, "model_not_found"),
        (e.UnknownResponse, 404, "response_not_found"),
        (e.PreviousResponseGone, 400, "previous_response_not_found"),
        (e.StrongRateLimited, 429, "rate_limit_exceeded"),
        (e.StrongUnauthorized, 502, "strong_model_unauthorized"),
        (e.StrongNotConfigured, 503, "strong_model_not_configured"),
        (e.StrongUnreachable, 502, "strong_model_unreachable"),
        (e.StrongTimeout, 504, "strong_model_timeout"),
        (e.StrongRedirected, 502, "strong_model_redirected"),
        (e.OutOfMemory, 503, "out_of_memory"),
        (e.EngineUnavailable, 503, "weak_model_unavailable"),
        (e.ArtifactMissing, 503, "weak_model_unavailable"),
    ],
)
def test_statuses(kind: type[e.EdgeRouterError], status: int, code: str) -> None:
    told = failure(kind(*EXAMPLES.get(kind, ())))
    assert (told.status, told.code) == (status, code)


def test_the_field_is_named() -> None:
    assert failure(e.InvalidRequest("stop", "no")).param == "stop"
    assert failure(e.InvalidRequest(None, "no")).param is None
    assert failure(e.ContextOverflow(9, 5)).param == "messages"
    assert failure(e.UnknownModel("x", ())).param == "model"


@pytest.mark.parametrize("reason", ["must be 1", "must be 1.", "did you mean private?"])
def test_a_sentence_ends_once(reason: str) -> None:
    told = failure(e.InvalidRequest("x", reason)).message
    assert told == f"x: {reason.rstrip('.')}" + ("" if reason.endswith("?") else ".")


def test_a_rate_limit_says_how_long_to_wait() -> None:
    assert failure(e.StrongRateLimited(X, 1.2)).headers == {"retry-after": "2"}
    assert failure(e.StrongRateLimited(X, -1)).headers == {"retry-after": "0"}
    assert failure(e.EngineRestarting("mlc", "it ended", 3.2)).headers == {"retry-after": "4"}
    assert failure(e.StrongRateLimited(X)).headers == {}


def test_clients_are_told_not_to_repeat_what_cannot_work() -> None:
    assert failure(e.StrongNotConfigured()).headers == {"x-should-retry": "false"}
    assert failure(e.StrongUnreachable(X, "refused")).headers == {}


def test_what_the_strong_model_refuses_is_the_callers_to_mend() -> None:
    assert failure(e.StrongFailed(X, 400, "bad tools")).status == 400
    assert failure(e.StrongFailed(X, 418, "teapot")).status == 502


def test_the_settings_of_the_endpoint_that_failed_are_named() -> None:
    for error, one, of_several in (
        (e.StrongUnreachable(X, "refused"), "strong.base_url", "endpoints.work.base_url"),
        (e.StrongRedirected(X, 307, X), "strong.base_url", "endpoints.work.base_url"),
        (e.StrongGarbled(X, "a web page"), "strong.base_url", "endpoints.work.base_url"),
        (e.StrongRefused(X, 400, "tools", "no"), "strong.model", "endpoints.work.models"),
        (e.StrongFailed(X, 404, "no such model"), "strong.model", "endpoints.work.models"),
        (e.StrongUnauthorized(X, 401, None), "strong.api_key_env", "endpoints.work.api_key_env"),
    ):
        told = (sentence(error), failure(error).message)
        assert one in told[0] and "{" not in told[1], told
        error.section = "endpoints.work"
        again = (sentence(error), failure(error).message)
        assert of_several in again[0] and not any("strong." in each for each in again), again
        if not isinstance(error, e.StrongFailed):
            assert one in told[1] and of_several in again[1], again


def test_a_new_kind_is_told_as_its_parent() -> None:
    class Stranger(e.StrongUnreachable):
        pass

    assert rule(Stranger(X, "no")) is RULES[e.StrongUnreachable]


def test_refusals() -> None:
    for status in REFUSALS:
        assert refusal(status).message
    assert refusal(418).type == "invalid_request_error"
    assert refusal(501).type == "server_error"
    assert "log" in unexpected().message
