"""What share of typical prompts would go to which model: what `config init` says in the end."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from edge_router.cli.terminal import output
from edge_router.config.tiers import bound_of
from edge_router.errors import EdgeRouterError

if TYPE_CHECKING:
    from edge_router.cli.session import Session
    from edge_router.config.settings import Config


def tell(config: Config, session: Session) -> None:
    """On stderr; nothing where the router cannot say, for it asks the weak model or is not there."""
    try:
        words = _words(config, session)
    except EdgeRouterError:
        return
    for line in words:
        output.say(line)


def _words(config: Config, session: Session) -> list[str]:
    from edge_router.routing.routers.base import AsksEndpoint, AsksWeak
    from edge_router.routing.routers.fitting import default_threshold, typical_traffic

    with closing(session.pool(config)) as models:
        router = models.router(None)
        if isinstance(router, AsksWeak | AsksEndpoint):  # takes long, or is paid
            return []
        alone = not models.strong_configured and bound_of(config) is None
        threshold = default_threshold(router, config) if alone else models.threshold(router)
        sent = typical_traffic(router, threshold)
    strong, n = sum(kind.strong for kind in sent), sum(kind.n for kind in sent)
    kinds = ", ".join(f"{kind.kind} {kind.strong} of {kind.n}" for kind in sent)
    if not config.has_strong:
        return [
            f"There is no strong model, so everything is answered here. Once strong.model names one, "
            f"{strong} of {n} typical prompts ({strong / n:.0%}) would go there ({kinds})."
        ]
    return [
        f"{strong} of {n} typical prompts ({strong / n:.0%}) would go to {config.strong_title} ({kinds}); "
        f"see them with: {session.command('route', '--typical')}"
    ]
