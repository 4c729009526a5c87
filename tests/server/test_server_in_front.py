"""Two edge-routers, the weak model of one being the other."""

from __future__ import annotations

import threading

import pytest

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter, errors
from edge_router.chat.events import Finished, TextDelta, Usage
from edge_router.chat.request import JsonOutput


@pytest.fixture
def front(request):
    """front(url of the one behind, model="weak"): a controller that asks it."""

    def make(url, model="weak", **settings):
        config = Config().replace(
            **{"weak.engine": "remote", "weak.model": model, "weak.base_url": f"{url}/v1", **settings}
        )
        strong = ScriptedEngine("the front's strong one", model_id="strong-one")
        controller = Controller(config, strong=strong, router=ScriptedRouter(lambda text: "hard" in text))
        request.addfinalizer(controller.close)
        return controller

    return make


@pytest.fixture
def behind(serve):
    return serve(
        weak=ScriptedEngine(
            default=lambda request: "behind, weak", model_id="small", context_window_size=1000
        ),
        strong=ScriptedEngine(default=lambda request: "behind, strong", model_id="big"),
    )


def test_the_one_behind_answers_and_keeps_it_here(behind, front):
    controller = front(behind.url)
    reply = controller.chat.completions.create(messages="hi")
    assert (reply.text, reply.model, reply.decision.reason) == ("behind, weak", "weak", "score")
    assert controller.chat.completions.create(messages="hard").text == "the front's strong one"
    assert controller.chat.completions.create(messages="hard", private=True).text == "behind, weak"


def test_what_is_asked_of_it_goes_no_further_whatever_it_would_decide(behind, front):
    """To it "hard" is a question for its own strong model."""
    controller = front(behind.url, "auto")
    assert controller.chat.completions.create(model="weak", messages="hard").text == "behind, weak"
    with pytest.raises(errors.ConfigError, match="its own strong model"):
        front(behind.url, "strong").chat.completions.create(model="weak", messages="hi")


def test_pieces_forms_and_the_context(behind, front):
    controller = front(behind.url)
    with controller.chat.completions.create(messages="hi", stream=True) as stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "behind, weak"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    reply = controller.chat.completions.create(
        messages="hi", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    )
    assert reply.text == "behind, weak" and behind.weak.calls[-1].output == JsonOutput(schema, "x")
    assert controller._pool.weak().capabilities.context_window == 1000


def test_leaving_the_one_in_front_stops_the_one_behind(serve, front):
    gone = threading.Event()

    def endless(request):
        try:
            while True:
                yield "word "
                yield 0.01
        finally:
            gone.set()

    behind = serve(weak=ScriptedEngine(default=endless, model_id="small"))
    with front(behind.url).chat.completions.create(messages="hi", stream=True) as stream:
        assert next(stream).choices[0].delta is not None
        assert not gone.is_set()
    assert gone.wait(30)


def test_it_does_not_ask_itself(behind, front):
    port = int(behind.url.rpartition(":")[2])
    with pytest.raises(errors.ConfigError, match="ask itself"):
        front(behind.url, **{"server.port": port}).chat.completions.create(messages="hi")


def test_the_one_in_front_is_a_caller_of_the_one_behind(serve, monkeypatch, request):
    """Which knows it by its key, and holds it to its limits; what it may not have is answered in front."""
    key = "sk-er-" + "f6" * 16
    monkeypatch.setenv("KEY_OF_FRONT", key)
    priced = {"strong.model": "big", "strong.price_in": 0.0, "strong.price_out": 1e6}
    answer = [TextDelta("behind, strong"), Finished("stop", Usage(1, 1))]

    def behind(**limits):
        settings = {f"callers.front.{name}": value for name, value in limits.items()}
        config = {"callers.front.api_key_env": "KEY_OF_FRONT", **priced, **settings}
        weak = ScriptedEngine(default=lambda asked: "behind, weak", model_id="small")
        return serve(
            config=config, weak=weak, strong=ScriptedEngine(default=lambda asked: answer, model_id="big")
        )

    def in_front(url, model, variable="KEY_OF_FRONT"):
        config = Config().replace(
            **{
                "strong.base_url": f"{url}/v1",
                "strong.model": model,
                "strong.api_key_env": variable,
                "strong.max_retries": 0,
                "callers.desk.requests_per_minute": 100,
            }
        )
        controller = Controller(
            config,
            weak=ScriptedEngine(default=lambda asked: "in front", model_id="front-small"),
            router=ScriptedRouter(lambda text: float("hard" in text)),
        )
        request.addfinalizer(controller.close)
        return controller

    def ask(controller, model="auto"):
        reply = controller.chat.completions.create(messages="hard", model=model, max_tokens=2, caller="desk")
        assert key not in str(reply.fallback_cause)
        return reply.text, str(reply.decision.reason), type(reply.fallback_cause).__name__

    served = behind()
    one = in_front(served.url, "big")
    assert ask(one) == ("behind, strong", "score", "NoneType")
    assert served.strong.calls[-1].caller == "front"  # and not the caller of the one in front
    assert ask(in_front(served.url, "big", "NO_KEY")) == (
        "in front",
        "strong_unavailable",
        "StrongUnauthorized",
    )
    limited = in_front(behind(requests_per_minute=1).url, "big")
    assert [ask(limited)[0] for _ in range(2)] == ["behind, strong", "in front"]
    with pytest.raises(errors.StrongRateLimited) as caught:
        ask(limited, "strong")
    assert caught.value.retry_after is not None and 1 <= caught.value.retry_after <= 60
    weak_only = behind(models=["weak"])
    assert ask(in_front(weak_only.url, "big"))[:2] == ("in front", "strong_unavailable")
    assert ask(in_front(weak_only.url, "auto"))[0] == "behind, weak"
    poor = in_front(behind(daily_budget=1.0).url, "big")
    assert [ask(poor)[0] for _ in range(2)] == ["behind, strong", "in front"]
