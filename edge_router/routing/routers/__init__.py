"""The routers by name: ONNX graphs that ship or are the user's own, models that are asked, the controls.

A factory takes `threads` (of the graph; the controls need none) and returns a `Router`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_router.catalog import RouterCard, parse_router_card, router_cards
from edge_router.config.settings import Config
from edge_router.registry import Registry
from edge_router.routing.routers.base import Router
from edge_router.system.paths import Paths

KIND = "router"
_LEARNED = "mf"  # who steps in for the weak model's own judgement


def routers(own: Path | None = None, config: Config | None = None) -> Registry[Router]:
    """A new registry: nothing is loaded before a factory is called.

    `own`: the folder of the user's routers, a folder each; None is `Paths.routers`. `config` says where
    graphs run (see providers.py) and whom the router decision asks. Raises `DuplicateName` where one of them
    has the name of a router that ships.
    """
    config = config or Config()
    registry: Registry[Router] = Registry(KIND)
    cards = graph_cards(own)
    for name in cards:
        registry.add(name, partial(_onnx, cards.get(name), config.router.provider), owner=cards.owner(name))
    registry.add("causal_llm", _causal)
    registry.add("decision", partial(_decision, cards, config))
    registry.add("length", _length)
    registry.add("random", _random)
    return registry


def graph_cards(own: Path | None = None) -> Registry[RouterCard]:
    """The cards of the routers that are ONNX graphs.

    A card of the user's is read when it is asked for: a broken one must not keep the others from working.
    """
    cards: Registry[RouterCard] = Registry(KIND)
    for name, card in router_cards().items():
        cards.add(name, partial(_same, card))
    folder = Paths.default().routers if own is None else own
    for file in sorted(folder.glob("*/card.toml")):
        cards.add(file.parent.name, partial(parse_router_card, file.parent), owner=str(file.parent))
    return cards


def _same(card: RouterCard) -> RouterCard:
    return card


def _onnx(card: Callable[[], RouterCard], provider: str, threads: int = 1) -> Router:
    from edge_router.routing.routers.loading import load

    return load(card(), threads=threads, provider=provider)


def _length(threads: int = 1) -> Router:
    from edge_router.routing.routers.controls import LengthRouter

    return LengthRouter()


def _random(threads: int = 1) -> Router:
    from edge_router.routing.routers.controls import RandomRouter

    return RandomRouter()


def _decision(cards: Registry[RouterCard], config: Config, threads: int = 1) -> Router:
    from edge_router.routing.routers.decision import NAME, DecisionRouter, EndpointRouter

    kind = DecisionRouter if config.judge.base_url is None else EndpointRouter
    at = config.router.threshold if config.router.name == NAME else None
    learned = partial(_onnx, cards.get(_LEARNED), config.router.provider, threads)
    return kind(learned, config.judge.timeout_s, at)


def _causal(threads: int = 1) -> Router:
    from edge_router.routing.routers.causal import CausalRouter

    return CausalRouter()
