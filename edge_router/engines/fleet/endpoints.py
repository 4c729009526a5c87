"""The endpoints of the configuration, each as the settings of one strong engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edge_router.config.named_tables import ENDPOINTS
from edge_router.config.sections import EndpointConfig, StrongConfig
from edge_router.config.settings import Config
from edge_router.config.tiers import meant
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.keys import Key, NoKey, find_key
from edge_router.records import dataclass
from edge_router.routing.thresholds.prices import Prices


@dataclass(frozen=True, slots=True)
class StrongEndpoint:
    """One of them. `settings` are those of `[strong]` with its own address, models and key in them."""

    name: str
    settings: StrongConfig
    place: Endpoint
    models: tuple[str, ...]
    prices: Prices | None
    limits: EndpointConfig
    keyed: bool = True  # whether a key is looked for at all
    is_named: bool = True  # [endpoints.NAME], not [strong]

    @property
    def section(self) -> str:
        """Of the configuration."""
        return f"{ENDPOINTS}.{self.name}" if self.is_named else "strong"

    def setting(self, name: str) -> str:
        """The key of the configuration that holds its `models`, `base_url` and so on."""
        return f"{self.section}.{'model' if name == 'models' and not self.is_named else name}"

    def key(self) -> Key | NoKey:
        return find_key(self.settings) if self.keyed else NoKey()

    def model_for(self, target: str) -> str | None:
        """The model that a request of that `model` is for; None where it is for other endpoints."""
        return meant(target, self.name, self.models, self.limits.tags)


def strong_endpoints(config: Config, *, own_prices: bool = False) -> Iterator[StrongEndpoint]:
    """`[strong]` itself, where it names a model, then the others as they stand in the file.

    `own_prices`: none are looked for that the user does not say. Raises `ConfigError`.
    """
    strong = config.strong
    if strong.model is not None:
        place = Endpoint.parse(strong.base_url)
        own = EndpointConfig("strong", models=(strong.model,))
        yield StrongEndpoint(
            "strong", strong, place, own.models, Prices.of(strong, own=own_prices), own, is_named=False
        )
    for each in config.endpoints:
        place = Endpoint.parse(each.base_url, f"{ENDPOINTS}.{each.name}.base_url")
        # A key goes to the address that it was meant for: nothing is taken over from [strong].
        variable = each.api_key_env or (StrongConfig().api_key_env if place.is_openai else None)
        settings = replace(
            strong,
            base_url=each.base_url,
            model=each.models[0],
            api_key_env=variable or "",
            price_in=each.price_in,
            price_out=each.price_out,
        )
        keyed, prices = variable is not None, Prices.of(each, own=own_prices)
        yield StrongEndpoint(each.name, settings, place, each.models, prices, each, keyed)
