"""The settings of an endpoint for typed questions, `[questions]`."""

from __future__ import annotations

from collections.abc import Callable

from edge_router.records import dataclass

NAME = "questions"  # of that endpoint among all that are paid
PROTOCOLS = ("decisions", "systemone")


@dataclass(frozen=True, slots=True)
class QuestionsConfig:
    """Where typed questions go that the weak model is unsure of: an endpoint that is made for them."""

    base_url: str | None = None  # ends in /v1; None: the strong model is asked in words
    protocol: str = "decisions"  # what it speaks: decisions (OpenAI's) or systemone (TypeSafe's)
    model: str | None = None
    api_key_env: str | None = None  # the variable that holds its key; None: it wants none
    local: bool = False  # its model is on this machine: it gets what must not leave that, too, also offline
    price_in: float | None = None  # of a million tokens of states and questions; None: strong.price_in
    price_out: float | None = None

    @property
    def is_priced(self) -> bool:
        """Whether the endpoint has prices of its own."""
        return self.base_url is not None and (self.price_in is not None or self.price_out is not None)


NO_ENDPOINT = QuestionsConfig()


def check_questions(found: QuestionsConfig, require: Callable[[str, bool, str], None]) -> None:
    """Hands `require` each key with whether its value holds, and the reason where it does not."""
    url = found.base_url
    require("questions.local", url is not None or not found.local, "is about questions.base_url")
    require("questions.protocol", found.protocol in PROTOCOLS, f"must be one of {', '.join(PROTOCOLS)}")
    for name, price in (("price_in", found.price_in), ("price_out", found.price_out)):
        require(f"questions.{name}", price is None or 0 <= price < float("inf"), "must be 0 or more")
    require("questions.base_url", url is None or bool(found.model), "needs questions.model beside it")
