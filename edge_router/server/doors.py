"""What each caller finds behind its key. Nothing that another one has left can be reached from there."""

from __future__ import annotations

from starlette.types import Scope

from edge_router.api.client import Controller
from edge_router.callers.allowance import Standing
from edge_router.callers.register import Callers
from edge_router.control.caller_view import CallerView
from edge_router.records import dataclass
from edge_router.server.protocols import Protocols
from edge_router.server.ratings import Ratings
from edge_router.surfaces.base import SurfaceHost

CALLER = "edge_router.caller"  # of a scope: whose key it came with, where that is a caller's


@dataclass(frozen=True, slots=True)
class CallerAccess:
    """`protocols` are the caller's own: what they keep, such as answers of Responses, is nobody else's."""

    caller: str | None
    protocols: Protocols
    host: SurfaceHost
    ratings: Ratings
    callers: Callers

    @property
    def standing(self) -> Standing:
        """What is left of the caller's limits."""
        return self.callers.standing(self.caller)


class Doors:
    """One for each caller of the configuration, and one for whoever is none of them."""

    def __init__(self, controller: Controller, protocols: Protocols) -> None:
        self._common = CallerAccess(None, protocols, controller, Ratings(controller), controller.callers)
        self._own = {
            each.name: CallerAccess(
                each.name,
                protocols.anew(),
                CallerView(controller, each.name),
                Ratings(controller),
                controller.callers,
            )
            for each in controller.config.callers
        }

    def of(self, scope: Scope) -> CallerAccess:
        caller = scope.get(CALLER)
        return self._common if caller is None else self._own[caller]
