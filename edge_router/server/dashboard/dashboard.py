"""One server's dashboard: the page at `/`, its files and data below `/dashboard/`, and who may see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from edge_router.api.client import Controller
from edge_router.server.dashboard.access import DashboardAccess
from edge_router.server.dashboard.data_routes import DataRoutes, Save
from edge_router.server.dashboard.page import files, sent
from edge_router.server.http.listen import reached
from edge_router.server.running import RunningAnswers

PREFIX = "/dashboard/"
NO_SESSION = "The dashboard is for whoever runs this server: `edge-router dashboard` prints a link to it."
Handler = Callable[[Request], Awaitable[Response]]


class Dashboard:
    """Make one, hand it to `serve.run` or `create_app`, and show its `link` to the owner.

    `save` writes settings as `edge-router config set` does; without it the page changes nothing. `renewed`
    gets the next link once one was used.
    """

    def __init__(
        self,
        *,
        save: Save | None = None,
        renewed: Callable[[str], None] = lambda link: None,
    ) -> None:
        self._save, self._renewed = save, renewed
        self._access, self._url = DashboardAccess(), ""

    def link(self, url: str) -> str:
        """What opens the page of the server at `url`, once."""
        self._url = reached(url)
        return f"{self._url}/?token={self._access.token}"

    @staticmethod
    def is_meant(scope: Scope) -> bool:
        """Whether a request is the dashboard's to answer, which asks for no key: the page takes a session.

        Of `/` only browsers ask for HTML; all others are told what they have always been.
        """
        if scope["path"] != "/":
            return f"{scope['path']}/".startswith(PREFIX)
        return scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", "").lower()

    def routes(self, controller: Controller, running: RunningAnswers) -> list[Route]:
        """All but the page, whose path others ask for, too."""
        data = DataRoutes(controller, running, self._save)
        handlers: dict[str, tuple[str, Handler]] = {
            "facts": ("GET", data.facts),
            "traffic": ("GET", data.traffic),
            "decisions": ("GET", data.decisions),
            "events": ("GET", data.events),
            "explain": ("POST", data.explain),
            "threshold": ("POST", data.threshold),
        }
        routes = [
            Route(PREFIX + name, self._behind(handler), methods=[method])
            for name, (method, handler) in handlers.items()
        ]
        typed = Route(PREFIX.rstrip("/"), self.page, methods=["GET"])  # by who takes that for its address
        return [*routes, typed, Route(PREFIX + "{name}", _file, methods=["GET"])]

    async def page(self, request: Request) -> Response:
        """The page for a session, which a link begins; else what to do."""
        token = request.query_params.get("token")
        session = None if token is None else self._access.enter(token)
        if session is not None:
            reply = sent("index.html")
            reply.set_cookie(_cookie(request.scope), session, httponly=True, samesite="strict")
            self._renewed(self.link(self._url))
            return reply
        return sent("index.html") if self._is_known(request) else sent("closed.html", 401)

    def _behind(self, handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            if not self._is_known(request):
                raise HTTPException(401, NO_SESSION)
            # The guard lets in pages that the user allowed; this is for the server's own only. Browsers send
            # its cookie from pages at other ports of this machine, too, and say where a request comes from.
            origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
            own = {f"{scheme}://{request.headers['host'].lower()}" for scheme in ("http", "https")}
            if site not in ("same-origin", "none") or (origin is not None and origin.lower() not in own):
                raise HTTPException(403, "Only the dashboard's own page may ask for this.")
            return await handler(request)

        return checked

    def _is_known(self, request: Request) -> bool:
        return self._access.knows(request.cookies.get(_cookie(request.scope)))


def _cookie(scope: Scope) -> str:
    """Its name: browsers send cookies to all ports of a machine, and each may have a server of ours."""
    _, port = scope.get("server") or (None, None)
    return f"edge_router_{port}"


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in files():
        raise HTTPException(404)
    return sent(name)
