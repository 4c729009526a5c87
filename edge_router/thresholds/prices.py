"""What the strong model's answers cost, from the prices in the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from edge_router.chat.events import Usage
from edge_router.config import Config, EndpointConfig, StrongConfig

PER = 1_000_000  # tokens that a price is for


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens, prompt and answer, in whatever money they are written down in."""

    price_in: float
    price_out: float

    @classmethod
    def of(cls, strong: StrongConfig | EndpointConfig) -> Prices | None:
        """None where no price is configured; where one is, the other one counts as nothing."""
        if strong.price_in is None and strong.price_out is None:
            return None
        return cls(strong.price_in or 0.0, strong.price_out or 0.0)

    @classmethod
    def highest(cls, config: Config) -> Prices | None:
        """Of all that may be asked: what an answer may cost. None where no price is configured."""
        own = () if config.strong.model is None and config.endpoints else (config.strong,)
        priced = [prices for each in (*own, *config.endpoints) if (prices := cls.of(each)) is not None]
        if not priced:
            return None
        return cls(max(each.price_in for each in priced), max(each.price_out for each in priced))

    def cost(self, usage: Usage) -> float:
        """Tokens that the endpoint had cached cost as much as others here: the bill may be lower."""
        return (usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out) / PER
