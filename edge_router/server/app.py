"""The ASGI application: routes, error replies and the guard around them all."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge_router.api.async_client import AsyncController
from edge_router.callers.keys import KeyRing
from edge_router.config.sections import ServerConfig
from edge_router.errors import CallerLimited, EdgeRouterError, clipped
from edge_router.server.dashboard.dashboard import Dashboard
from edge_router.server.doors import Doors
from edge_router.server.errors import failure, refusal
from edge_router.server.http.body import Bodies
from edge_router.server.http.limits import ServerLimits
from edge_router.server.protocols import Protocols
from edge_router.server.rates import rate_headers
from edge_router.server.routes import Api
from edge_router.server.running import RunningAnswers
from edge_router.server.security import SecurityMiddleware, host_name, known_hosts
from edge_router.surfaces.ollama.queries import RUNNING


def create_app(
    controller: AsyncController,
    settings: ServerConfig,
    *,
    api_key: str | None = None,
    limits: ServerLimits | None = None,
    protocols: Protocols | None = None,
    dashboard: Dashboard | None = None,
) -> Starlette:
    """An app over `controller`, which stays the caller's to close. Nothing is loaded here.

    `api_key`, or that of a caller of the configuration, is asked of every request except /health; without
    either none is. Keys are read now, and not again. `app.state.running.stop()`,
    on the app's event loop, ends what is under way. `protocols`: those that are installed, where None.
    Without a `dashboard` there is none.

    Raises `PluginFailed`, `DuplicateName` for protocols of other packages that cannot be spoken, and
    `ConfigError` for callers' keys that cannot be.
    """
    running, limits, spoken = RunningAnswers(), limits or ServerLimits(), protocols or Protocols.installed()
    doors = Doors(controller.controller, spoken)
    guard = Middleware(
        SecurityMiddleware,
        hosts=known_hosts(settings.host, settings.allowed_hosts),
        origins=settings.allowed_origins,
        keys=KeyRing.of(controller.controller.config.callers, owner=api_key or None),
        protocols=spoken,
        defects=controller.controller.defects,
        unlocked=(lambda scope: False) if dashboard is None else dashboard.is_meant,
    )
    shown = [] if dashboard is None else dashboard.routes(controller.controller, running)
    root = _root(settings.ollama_port, dashboard)
    app = Starlette(
        routes=[*Api(controller, running, limits, spoken, doors).routes(), root, *shown],
        middleware=[guard, Middleware(Bodies, limits=limits)],
        exception_handlers={
            EdgeRouterError: partial(_ours, doors),
            HTTPException: partial(_refused, spoken),
        },
    )
    app.router.redirect_slashes = False  # a redirect would point wherever the Host header says
    app.state.running = running
    return app


async def _ours(doors: Doors, request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgeRouterError)
    door, told = doors.of(request.scope), failure(error)
    if isinstance(error, CallerLimited):
        headers = rate_headers(door.standing, door.protocols.of(request.scope).name)
        told = replace(told, headers={**told.headers, **headers})
    return door.protocols.failed(request.scope, told)


def _root(ollama_port: int | None, dashboard: Dashboard | None) -> Route:
    """Ollama's clients ask for / first. Browsers at our own port find the dashboard; others are told where
    to go."""

    async def root(request: Request) -> Response:
        _, port = request.scope.get("server") or (None, None)
        here = request.method == "GET" and port is not None and port == ollama_port
        if dashboard is not None and not here and dashboard.is_meant(request.scope):
            return await dashboard.page(request)
        if not here and request.method != "HEAD":
            raise HTTPException(404)
        return PlainTextResponse(RUNNING)

    return Route("/", root, methods=["GET", "HEAD", "POST"])


def _nothing_here(protocols: Protocols, request: Request) -> str:
    """Ends in what to do: most who ask for what is not there have a wrong base address."""
    path = clipped(request.url.path.encode("ascii", "replace").decode())
    for known in protocols.chats:
        if path.endswith(known):
            wrong = path.removesuffix(known)
            return f"There is no {path} here, but {known}: leave {wrong} out of the client's base address."
    near = [known for known in protocols.chats if known.split("/")[1] == path.split("/")[1]]
    if near:
        return f"There is no {path} here. POST {', '.join(near[:-1])} and {near[-1]} are."
    return f"There is no {path} here. A client's base_url ends in /v1: {_address(request)}/v1."


def _address(request: Request) -> str:
    """Under which the client has found this server; the port is the real one where it named none."""
    host, server = request.headers.get("host", ""), request.scope.get("server")
    if host_name(host) != host.lower() or server is None:
        return f"http://{host}"
    return f"http://{host}:{server[1]}"


async def _refused(protocols: Protocols, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 404:
        message = _nothing_here(protocols, request)
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another one")
        message = f"{request.method} is not answered here; use {allowed}."
    return protocols.failed(request.scope, refusal(error.status_code, message, error.headers))
