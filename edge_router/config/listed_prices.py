"""What models cost where the user does not say: from the package genai-prices, if it is installed.

It holds the makers' lists as they were when it was released, and asks no network. It is imported when a price
is looked for, which takes a quarter of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.config.sections import EndpointConfig, StrongConfig

PACKAGE, EXTRA = "genai-prices", "prices"
OPENAI = "https://api.openai.com/v1"  # where an endpoint without an address is


@dataclass(frozen=True, slots=True)
class PriceStep:
    """Prices of a million tokens where the prompt is longer than `start`."""

    start: int
    price_in: float
    price_out: float


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """`steps` begin with the one for all prompts. `source` names the list with its release and date."""

    steps: tuple[PriceStep, ...]
    source: str


def is_here() -> bool:
    """Whether there is a list at all; imports nothing."""
    return find_spec("genai_prices") is not None


def models_of(strong: StrongConfig | EndpointConfig) -> tuple[str, ...]:
    """What is asked there."""
    one: str | None = getattr(strong, "model", None)
    several: tuple[str, ...] = getattr(strong, "models", ())
    return several if one is None else (one,)


def is_listed(strong: StrongConfig | EndpointConfig) -> bool:
    """Whether the list makes up for prices that the user does not say."""
    unsaid = strong.price_in is None and strong.price_out is None
    return unsaid and listed(models_of(strong), strong.base_url) is not None


def listed(models: Iterable[str], base_url: str | None) -> ListedPrice | None:
    """Of the dearest of `models` at that address, at the dearest hour of today. None where one is not known.

    It has to be the maker's own address, or another one that the list knows: what a model costs elsewhere,
    such as on a server of one's own, nobody can tell.
    """
    if not is_here():
        return None
    from genai_prices.data_snapshot import get_snapshot

    snapshot, steps, now = get_snapshot(), dict[int, PriceStep](), datetime.now(UTC)
    hours = [now.replace(hour=hour, minute=minute) for hour in range(24) for minute in (0, 31)]
    prices: list[Any] = []
    for model in models:
        try:
            _, found = snapshot.find_provider_model(model, None, None, base_url or OPENAI)
        except LookupError:
            return None
        prices += [found.get_prices(hour) for hour in hours]
    if not prices or any(price.input_mtok is None or price.output_mtok is None for price in prices):
        return None
    both = [(price.input_mtok, price.output_mtok) for price in prices]
    for start in sorted({0, *(start for pair in both for each in pair for start in _starts(each))}):
        price_in = max(_at(each, start) for each, _ in both)
        steps[start] = PriceStep(start, price_in, max(_at(each, start) for _, each in both))
    newest = max((day for day in _days(snapshot.providers) if day <= now.date()), default=None)
    source = f"{PACKAGE} {metadata.version(PACKAGE)}" + (f" of {newest} or later" if newest else "")
    return ListedPrice(tuple(steps.values()), source)


def _starts(price: Any) -> Iterator[int]:
    yield from (int(tier.start) for tier in getattr(price, "tiers", ()))


def _at(price: Any, tokens: int) -> float:
    """Of a prompt of more tokens than that: all of them cost as much."""
    if not hasattr(price, "tiers"):
        return float(price)
    reached = [tier.price for tier in price.tiers if 0 < tier.start <= tokens]
    return float(max([price.base, *reached]) if tokens else price.base)


def _days(providers: Any) -> Iterator[date]:
    """When prices began: the list is not older than the newest."""
    for provider in providers:
        for model in provider.models:
            for price in model.prices if isinstance(model.prices, list) else ():
                day = getattr(price.constraint, "start_date", None)
                if isinstance(day, date):
                    yield day
