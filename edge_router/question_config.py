"""The settings of an endpoint for typed questions, `[questions]`."""

from __future__ import annotations

from collections.abc import Callable

from edge_router.records import dataclass

PROTOCOLS = ("decisions", "systemone")


@dataclass(frozen=True, slots=True)
class QuestionsConfig:
    """Where typed questions go that the weak model is unsure of: an endpoint that is made for them."""

    base_url: str | None = None  # ends in /v1; None: the strong model is asked in words
    protocol: str = "decisions"  # what it speaks: decisions (OpenAI's) or systemone (TypeSafe's)
    model: str | None = None
    api_key_env: str | None = None  # the variable that holds its key; None: it wants none


NO_ENDPOINT = QuestionsConfig()


def check_questions(found: QuestionsConfig, require: Callable[[str, bool, str], None]) -> None:
    url = found.base_url
    require("questions.protocol", found.protocol in PROTOCOLS, f"must be one of {', '.join(PROTOCOLS)}")
    reached = url is None or url.startswith(("http://", "https://"))
    require("questions.base_url", reached, "must start with http:// or https://")
    require("questions.model", url is None or bool(found.model), "is needed by questions.base_url")
