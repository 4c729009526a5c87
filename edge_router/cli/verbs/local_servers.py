"""Servers of language models on this machine: what `doctor` tells of them, and `config init` offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_router.cli.findings import Finding, Found
from edge_router.cli.session import Installation, Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import asked
from edge_router.cli.terminal.failures import told
from edge_router.config.settings import Config
from edge_router.engines.choice import SERVED
from edge_router.engines.local_server.servers import LocalServer, ServedModel
from edge_router.errors import EdgeRouterError

SECTION = "Local servers"
SHOWN = 8  # models of one server


def found() -> list[LocalServer]:
    """Those at the usual ports, but for other edge-routers, which answer from elsewhere."""
    from edge_router.engines.local_server.looking import discover

    return [server for server in discover() if server.kind != "edge_router"]


def running(site: Installation, config: Config) -> Found:
    """What could be the weak model; nothing where no server runs."""
    for server in found():
        usable = server.here
        names = ", ".join(model.name for model in usable[:SHOWN])
        more = f" and {len(usable) - SHOWN} more" if len(usable) > SHOWN else ""
        text = f"{server.title}: {names}{more}" if names else f"{server.title}: no model that chats"
        if usable and config.weak.engine != SERVED:
            text += f"; use one: {_taking(site, server, usable[0])}"
        yield Finding(SECTION, server.url.removeprefix("http://"), text)


def weak(site: Installation, config: Config) -> Found:
    """Of a configured one. Nothing is loaded for it."""
    from edge_router.cli.verbs.checks import confidence, tools
    from edge_router.engines.local_server.engine import inspected

    section = "Weak model"
    try:
        place, server, model = inspected(config)
    except EdgeRouterError as error:
        yield Finding(section, "server", told(error), "bad")
        return
    where = "this machine" if place.here else f"{place.host}, which is trusted; private questions stay away"
    yield Finding(section, "server", f"{server.title} at {server.url}, on {where}")
    if model.elsewhere:
        text = f"{model.name} runs at {model.elsewhere}, not on this machine; name another as weak.model"
        yield Finding(section, "model", text, "bad")
        return
    yield Finding(section, "model", _about(model, config))
    if server.kind == "ollama" and config.weak.context_window_size is None:
        widen = site.command("config", "set", "weak.context_window_size=16384")
        yield Finding(section, "context", f"as Ollama sets it, by the GPU's memory; another: {widen}")
    if not server.refuses_long:
        text = "it cuts what is too long in silence; Ollama 0.12.6 and later are told not to: update it"
        yield Finding(section, "version", text, "note")
    if server.kind == "lmstudio":
        text = "with LM Link it may run on another device; see what is linked with: lms link status"
        yield Finding(section, "link", text)
    yield from confidence(section, site, config, lambda: model.weights(server.kind))
    yield from tools(section, site, config, config.weak.model, lambda: model.weights(server.kind))


def held(config: Config) -> Iterator[str]:
    """What the weak model's server has taken of this machine's memory; nothing where the model is ours."""
    from edge_router.engines.local_server.engine import inspected

    if config.weak.engine != SERVED:
        return
    try:
        place, server, model = inspected(config)
    except EdgeRouterError as error:
        yield told(error)
        return
    if not place.here:
        yield f"The weak model is {model.name} on {place.host}: it takes nothing of this machine."
    elif model.memory:
        on_gpu = f", {output.size(model.on_gpu)} of it on a GPU" if model.on_gpu else ""
        takes = f"which holds {output.size(model.memory)} for it{on_gpu}"
        lies = f"The weak model is {model.name} in {server.title}"
        yield f"{lies}, {takes}: memory that is not ours, and already missing in what is free."
    else:
        size = f" (its file has {output.size(model.size)})" if model.size else ""
        yield f"The weak model is {model.name} in {server.title}{size}; how much that takes it does not tell."


def offered(wanted: Config, session: Session) -> Config | None:
    """`wanted` with a model of a server that runs, for a person who says yes; None for a no, and without any.

    Nothing is offered in place of what was chosen.
    """
    if any(wanted.origin(key) != "default" for key in ("weak.engine", "weak.model")):
        return None
    servers = [server for server in found() if server.here]
    for server in servers:
        usable = server.here
        model = _best(usable)
        output.say(
            f"{server.title} runs on this machine with {', '.join(one.name for one in usable[:SHOWN])}."
        )
        if asked(f"Let {model.name} there be the weak model?", default=False):
            settings: dict[str, object] = {"weak.engine": SERVED, "weak.model": model.name}
            return wanted.replace(**settings, **{"weak.base_url": server.url})
    return None


def _best(models: Sequence[ServedModel]) -> ServedModel:
    """One that is loaded, else the largest, as far as that is known."""
    return max(models, key=lambda model: (model.loaded is True, model.size or 0))


def _taking(site: Installation, server: LocalServer, model: ServedModel) -> str:
    settings = ("weak.engine=remote", f"weak.model={model.name}", f"weak.base_url={server.url}")
    return site.command("config", "set", *settings)


def _about(model: ServedModel, config: Config) -> str:
    context = config.weak.context_window_size or model.context
    words = [
        f"context {context}" if context else "context not told until it is loaded",
        f"of {model.trained}" if context and model.trained and model.trained != context else "",
        f"file {output.size(model.size)}" if model.size else "",
        f"takes {output.size(model.memory)} of memory that is not ours" if model.memory else "",
        f"of it {output.size(model.on_gpu)} on a GPU" if model.memory and model.on_gpu else "",
        "not loaded: the first question waits for that" if model.loaded is False else "",
    ]
    return f"{model.name} ({', '.join(word for word in words if word)})".replace(", of ", " of ", 1)
