"""The settings of the router, `[router]`, and of the model that the router decision asks, `[judge]`."""

from __future__ import annotations

from collections.abc import Callable

from edge_router.config.questions import PROTOCOLS, QuestionsConfig
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Which router scores, and from which score on the strong model is asked."""

    name: str = "mf"
    threshold: float | None = None  # None: what the router's model card says
    strong_share: float | None = None  # of the calls, held for the strong model; moves the threshold
    threads: int = 1
    chores: bool = True  # titles, tags and the like of a conversation stay here without a score
    provider: str = "cpu"  # of onnxruntime: cpu, cuda, coreml, webgpu; auto: a GPU if one works


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """Whom the router decision asks how hard a query is."""

    base_url: str | None = None  # of an endpoint for typed questions, ends in /v1; None: the weak model
    protocol: str = "decisions"  # what it speaks: decisions (OpenAI's) or systemone (TypeSafe's)
    model: str | None = None
    api_key_env: str | None = None  # the variable that holds its key; None: it wants none
    timeout_s: float = 2.0  # for one query, which a learned router scores then

    @property
    def endpoint(self) -> QuestionsConfig:
        """It as an endpoint of typed questions."""
        return QuestionsConfig(self.base_url, self.protocol, self.model, self.api_key_env)


LEARNED, WEAK = RouterConfig(), JudgeConfig()


def check_router_settings(
    router: RouterConfig, judge: JudgeConfig, require: Callable[[str, bool, str], None]
) -> None:
    """Hands `require` each key with whether its value holds, and the reason where it does not."""
    threshold, share, url = router.threshold, router.strong_share, judge.base_url
    require("router.threshold", threshold is None or 0 <= threshold <= 1, "must be between 0 and 1")
    require("router.strong_share", share is None or 0 <= share <= 1, "must be between 0 and 1")
    both = share is not None and threshold is not None
    require("router.strong_share", not both, "moves the threshold, so router.threshold must not be set")
    providers = ("auto", "cpu", "cuda", "coreml", "webgpu")
    require("router.provider", router.provider in providers, f"must be one of {', '.join(providers)}")
    require("judge.protocol", judge.protocol in PROTOCOLS, f"must be one of {', '.join(PROTOCOLS)}")
    require("judge.base_url", url is None or bool(judge.model), "needs judge.model beside it")
    require("judge.timeout_s", 0 < judge.timeout_s <= 60, "must be between 0 and 60 seconds")
