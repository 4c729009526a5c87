"""The fingerprint of the weights that the weak model would be loaded from, without loading them."""

from __future__ import annotations

from edge_router.config.settings import Config
from edge_router.engines.choice import DEVICES, SERVED
from edge_router.errors import EdgeRouterError
from edge_router.system.paths import Paths


def weights_of(config: Config, paths: Paths) -> str | None:
    """As `Capabilities.weights` has it then; None where it is not built, was not built here, or its server
    cannot be asked."""
    if config.weak.engine == SERVED:
        return _served(config)
    if config.weak.engine not in DEVICES:
        return None
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure
    from edge_router.engines import resolved

    try:
        settings = BuildSettings.from_config(resolved(config))
        card = find_model(config.weak.model)
        return ensure(card, settings, paths=paths, build=False, offline=True).weights_key
    except EdgeRouterError:  # told when it is loaded
        return None


def _served(config: Config) -> str | None:
    from edge_router.engines.local_server.engine import inspected

    try:
        _, server, model = inspected(config)
    except EdgeRouterError:  # as above
        return None
    return model.weights(server.kind)
