"""What the strong model's answers cost: by the prices in the configuration, or else by a list of them."""

from __future__ import annotations

from edge_router.chat.events import Usage
from edge_router.config.listed_prices import PriceStep, listed, models_of
from edge_router.config.questions import NAME as QUESTIONS
from edge_router.config.sections import EndpointConfig, StrongConfig
from edge_router.config.settings import Config
from edge_router.records import dataclass

PER = 1_000_000  # tokens that a price is for


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens, prompt and answer, in whatever money they are written down in.

    `steps` are those of longer prompts, all of whose tokens cost more. `source`: the list that they are from,
    None for the user's own.
    """

    price_in: float
    price_out: float
    steps: tuple[PriceStep, ...] = ()
    source: str | None = None

    @classmethod
    def of(cls, strong: StrongConfig | EndpointConfig, *, own: bool = False) -> Prices | None:
        """The user's own, where one counts as nothing beside the other; else, but for `own`, those of the
        list. None where nobody knows."""
        if strong.price_in is not None or strong.price_out is not None:
            return cls(strong.price_in or 0.0, strong.price_out or 0.0)
        if own:
            return None
        found = listed(models_of(strong), strong.base_url)
        if found is None:
            return None
        first, *rest = found.steps
        return cls(first.price_in, first.price_out, tuple(rest), found.source)

    @classmethod
    def highest(cls, config: Config, *, own: bool = False) -> Prices | None:
        """Of all that may be asked: what an answer may cost. None where no price is known."""
        first = () if config.strong.model is None and config.endpoints else (config.strong,)
        known = [cls.of(each, own=own) for each in (*first, *config.endpoints)]
        priced = [prices for prices in known if prices is not None]
        if not priced:
            return None
        starts = sorted({step.start for each in priced for step in each.steps})
        steps = [PriceStep(start, *_most(priced, start + 1)) for start in starts]
        return cls(*_most(priced, 0), tuple(steps), priced[0].source if len(priced) == 1 else None)

    @classmethod
    def by_endpoint(cls, config: Config) -> dict[str, Prices]:
        """Of each that has some, by its name; `[strong]` is named strong, `[questions]` questions."""
        every = {each.name: cls.of(each) for each in config.endpoints} | {"strong": cls.of(config.strong)}
        found = {name: each for name, each in every.items() if each is not None}
        asked = config.questions
        if asked.is_priced:
            found[QUESTIONS] = cls(asked.price_in or 0.0, asked.price_out or 0.0)
        return found

    def at(self, prompt_tokens: int) -> tuple[float, float]:
        """Of a prompt of that length, and its answer."""
        reached = [step for step in self.steps if prompt_tokens > step.start]
        return (reached[-1].price_in, reached[-1].price_out) if reached else (self.price_in, self.price_out)

    def cost(self, usage: Usage) -> float:
        """Tokens that the endpoint had cached cost as much as others here: the bill may be lower."""
        price_in, price_out = self.at(usage.prompt_tokens)
        return (usage.prompt_tokens * price_in + usage.completion_tokens * price_out) / PER


def _most(priced: list[Prices], tokens: int) -> tuple[float, float]:
    found = [each.at(tokens) for each in priced]
    return max(price for price, _ in found), max(price for _, price in found)
