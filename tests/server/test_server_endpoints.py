"""Several endpoints behind the server: who answered is told, kept and, without an address, shown to anyone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.config.sections import ServerConfig
from edge_router.errors import ConfigError, InvalidRules, ModelNotAllowed
from edge_router.ledger import Ledger
from edge_router.server.app import create_app
from edge_router.system.paths import Paths

Make = Callable[..., Controller]


@pytest.fixture
def make(paths: Paths, strong_server: Any) -> Iterator[Make]:
    """make("500", "ok", **settings): a controller with the endpoints a, b, ..., to which all is hard."""
    made: list[Controller] = []

    def make(*scripts: str, **settings: object) -> Controller:
        found: dict[str, object] = {"strong.max_retries": 0}
        for name, script in zip("abc", scripts, strict=False):
            found |= {
                f"endpoints.{name}.base_url": strong_server.url(script),
                f"endpoints.{name}.models": [f"model-{name}"],
            }
        config = Config().replace(**{**found, **settings})
        made.append(Controller(config, weak=ScriptedEngine(model_id="small"), router=ScriptedRouter(0.9)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_who_answered_is_told_and_kept(make: Make, setup: Any, paths: Paths) -> None:
    controller = make("401", "ok")
    app = create_app(AsyncController(controller), ServerConfig(port=0), api_key="k")
    called, key = setup(), ("authorization", "Bearer k")

    def health() -> Any:
        return called.call("GET", "/health", app=app).json()

    def chat(model: str = "auto", **fields: object) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        return called.call(body=body, app=app, headers=[("host", "localhost"), key])

    assert health() == {"status": "ok"}  # nobody was asked yet
    for fields in ({}, {"stream": True}):
        reply = chat(**fields)
        assert (reply.status, reply.header("x-edge-router-endpoint")) == (200, "b"), reply.body
        assert b'"model":"model-b"' in reply.body.replace(b": ", b":")
    assert health() == {"status": "ok", "endpoints": {"a": "failing", "b": "ready"}}
    metrics = called.call("GET", "/metrics", app=app, headers=[("host", "localhost"), key]).body.decode()
    assert 'edge_router_endpoint_state{endpoint="a",state="failing"} 1' in metrics
    assert 'edge_router_endpoint_in_flight{endpoint="b"} 0' in metrics
    assert chat("weak").header("x-edge-router-endpoint") is None
    assert [each.decision.endpoint for each in Ledger(paths.ledger).recent()] == [None, "b", "b"]
    assert [each.model for each in Ledger(paths.ledger).recent()] == ["small", "model-b", "model-b"]
    listed = called.call("GET", "/v1/models", app=app, headers=[("host", "localhost"), key]).json()
    assert {"a", "b", "model-a", "model-b"} <= {each["id"] for each in listed["data"]}
    refused = chat("a")
    assert (refused.status, refused.error["code"]) == (503, "strong_model_paused")
    assert 0 < int(refused.header("retry-after")) <= 60


def test_the_weak_model_steps_in_where_all_fail(make: Make, setup: Any) -> None:
    controller = make("401", "403", "quota")
    app = create_app(AsyncController(controller), ServerConfig(port=0), api_key=None)
    for cause in ("StrongQuotaExceeded", "StrongPaused"):
        reply = controller.chat.completions.create(messages="hi")
        assert (reply.model, reply.decision.reason, reply.decision.endpoint) == (
            "small",
            "strong_unavailable",
            None,
        )
        assert type(reply.fallback_cause).__name__ == cause
    assert setup().call("GET", "/health", app=app).json()["status"] == "degraded"


def test_many_at_once_on_an_event_loop(make: Make) -> None:
    controller = make("turn-0-3-40+ok", "turn-1-3-40+ok", "turn-2-3-40+ok", **{"strong.max_retries": 2})
    asked = [f"question {number}" for number in range(120)]

    async def ask(
        client: AsyncController, text: str, limit: asyncio.Semaphore
    ) -> tuple[str, str, str | None]:
        async with limit:
            stream = await client.chat.completions.create(messages=text, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return "".join(pieces), stream.decision.reason, stream.decision.endpoint

    async def all_of_them() -> list[tuple[str, str, str | None]]:
        async with AsyncController(controller) as client:
            limit = asyncio.Semaphore(12)
            return await asyncio.gather(*(ask(client, text, limit) for text in asked))

    found = asyncio.run(all_of_them())
    for text, (answer, reason, endpoint) in zip(asked, found, strict=True):
        assert answer.startswith(f"strong: {text} ·") and answer.count("strong:") == 1, text
        assert reason == "score" and endpoint in ("a", "b", "c")


def test_a_budget_pays_each_its_own_price(make: Make) -> None:
    """The stand-in states 7 tokens in and 4 out."""
    prices = {
        **{f"endpoints.a.price_{way}": 1e6 for way in ("in", "out")},
        **{f"endpoints.b.price_{way}": 1e4 for way in ("in", "out")},
    }
    controller = make("500", "ok", **{"strong.monthly_budget": 1e9, **prices})
    assert controller.callers.budgets.common is not None
    controller.chat.completions.create(messages="hi")
    assert controller.callers.budgets.common.spent == pytest.approx(0.11)
    paused = make("401", "401", **{"strong.monthly_budget": 1e9, **prices})
    for _ in range(2):
        assert paused.chat.completions.create(messages="hi").model == "small"
    spending = paused.callers.budgets.common
    assert spending is not None and spending.spent == pytest.approx(0.11)
    with pytest.raises(ConfigError, match=r"endpoints\.a\.price_in.*a budget needs it"):
        make("ok", **{"strong.monthly_budget": 1.0, "strong.price_in": 1.0})


def test_the_guard_stands_before_all_of_them(make: Make, strong_server: Any) -> None:
    controller = make("500", "ok", **{"guard.emails": "redact"})
    reply = controller.chat.completions.create(messages="I am ann@example.org")
    assert "ann@example.org" in reply.text and reply.decision.endpoint == "b"
    sent = [each["body"]["messages"][0]["content"] for each in strong_server.requests()]
    assert sent == ["I am [EMAIL_1]"] * 2
    controller.chat.completions.create(messages="hi", private=True)
    assert len(strong_server.requests()) == 2


def test_a_rule_may_name_an_endpoint(make: Make, paths: Paths) -> None:
    rules = paths.rules
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text('[[rule]]\nname = "eu"\nwords = ["Brussels"]\nthen = "eu"\n', encoding="utf-8")
    controller = make("ok", "ok", **{"endpoints.b.tags": ["eu"]})
    for text, endpoint in (("Where is Brussels?", "b"), ("Where is Oslo?", "a")):
        reply = controller.chat.completions.create(messages=text)
        assert reply.decision.endpoint == endpoint, text
    with pytest.raises(InvalidRules):
        make("ok", "ok")


def test_the_score_chooses_among_more_than_two(make: Make, setup: Any, paths: Paths) -> None:
    """Shown in the decision, the header, the ledger, the metrics; another steps in where one fails."""
    tiers = "0:weak,0.3:a,0.6:b,0.8:model-c"
    rows = (
        (0.2, ("ok", "ok", "ok"), "auto", "small", None, None),
        (0.3, ("ok", "ok", "ok"), "auto", "model-a", "a", "a"),
        (0.7, ("ok", "ok", "ok"), "auto", "model-b", "b", "b"),
        (0.9, ("ok", "ok", "ok"), "auto", "model-c", "model-c", "c"),
        (0.9, ("ok", "ok", "ok"), "router-scripted-0.1", "model-a", None, "a"),  # two models, as ever
        (0.7, ("ok", "401", "ok"), "auto", "model-c", "b", "c"),
        (0.7, ("ok", "401", "500"), "auto", "model-a", "b", "a"),
        (0.7, ("500", "401", "drop"), "auto", "small", None, None),
    )
    for score, scripts, model, answered, tier, endpoint in rows:
        controller = make(*scripts, tiers=tiers, **{"router.name": "mf"})
        controller._pool._default_router.answer = score  # type: ignore[union-attr]
        reply = controller.chat.completions.create(messages="hi", model=model)
        row = (score, scripts, model)
        assert reply.model == answered, row
        told = (reply.decision.tier_model, reply.decision.endpoint)
        assert told == (tier, endpoint), row
        latest = Ledger(paths.ledger).recent()[0].decision
        assert (latest.tier_model, latest.endpoint) == told, row
        counted = f'edge_router_tier_requests_total{{model="{tier}"}} 1' in controller.metrics.render()
        assert counted is (tier is not None), row
    controller = make("ok", "ok", "ok", tiers=tiers)
    controller.chat.completions.create(messages="hi", private=True)
    app = create_app(AsyncController(controller), ServerConfig(port=0), api_key=None)
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    reply = setup().call(body=body, app=app)
    assert reply.header("x-edge-router-tier-model") == "model-c"


def test_a_caller_is_answered_only_by_the_endpoints_that_it_may_use(make: Make) -> None:
    settings = {
        "callers.first.models": ["weak", "b"],
        "callers.tagged.models": ["auto", "eu"],
        "callers.model.models": ["model-c"],
        "callers.any.models": ["auto"],
        "endpoints.b.tags": ["eu"],
        "endpoints.c.tags": ["eu"],
    }
    controller = make("ok", "500", "ok", **settings)

    def ask(caller: str | None, model: str = "auto") -> tuple[str, str | None]:
        decision = controller.chat.completions.create(messages="hi", model=model, caller=caller).decision
        return str(decision.reason), decision.endpoint

    assert ask(None) == ask("any") == ("score", "a")
    assert ask("first") == ("strong_unavailable", None)  # b fails, and nobody else may step in
    assert ask("tagged") == ("score", "c")
    assert ask("model", "model-c") == ("forced", "c")
    for caller, model in (
        ("first", "a"),
        ("first", "strong"),
        ("model", "auto"),
        ("tagged", "c"),
        ("any", "a"),
    ):
        with pytest.raises(ModelNotAllowed):
            ask(caller, model)
    with pytest.raises(ConfigError, match=r"callers\.x\.models"):
        make("ok", **{"callers.x.models": ["b"]})


def test_a_rule_leads_no_caller_to_an_endpoint_that_it_may_not_use(make: Make, paths: Paths) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.rules.write_text('[[rule]]\nname = "to a"\nthen = "a"\nwords = ["hi"]\n', encoding="utf-8")
    controller = make("ok", "ok", **{"callers.x.models": ["weak", "b"], "callers.y.models": ["weak"]})
    told = [
        controller.chat.completions.create(messages="hi", caller=caller).decision
        for caller in (None, "x", "y")
    ]
    assert [(each.model, each.endpoint) for each in told] == [
        ("strong", "a"),
        ("strong", "b"),
        ("weak", None),
    ]
