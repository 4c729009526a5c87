"""What `doctor` looks at beyond this machine: proxies, certificates, the strong model and its key."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import urlsplit

from edge_router.cli.findings import Finding, Found, State
from edge_router.cli.session import Installation
from edge_router.cli.terminal.failures import told
from edge_router.cli.verbs.running_server import RunningServer, address, running
from edge_router.config import listed_prices
from edge_router.config.listed_prices import EXTRA, PACKAGE
from edge_router.config.sections import StrongConfig
from edge_router.config.settings import Config
from edge_router.engines.fleet.endpoints import StrongEndpoint, strong_endpoints
from edge_router.engines.remote.keys import Key, NoKey
from edge_router.errors import StrongError
from edge_router.system.network import BadNetworkSetting, certificate_setting, problems, proxy_for

STRONG, NETWORK = "Strong model", "Network"
IS_WINDOWS = os.name == "nt"


def network(config: Config) -> Found:
    """Proxies and certificates of the environment."""
    state: State = "note" if config.offline else "bad"
    found = [Finding(NETWORK, problem.variable, str(problem), state) for problem in problems()]
    yield from found
    for url in dict.fromkeys(each.place.url for each in strong_endpoints(config)):
        try:
            proxy = proxy_for(url)
            way = f"by way of {proxy.shown} ({proxy.variable})" if proxy else "without a proxy"
            yield Finding(NETWORK, "proxy", f"{url} is asked {way}")
        except BadNetworkSetting:
            pass  # said already
    if not config.has_strong and not found:
        yield Finding(NETWORK, "proxy", "every variable that names one can be used, or there is none")
    try:
        variable = certificate_setting()
        text = f"those that {variable} names" if variable else "the system's"
        yield Finding(NETWORK, "certificates", text)
    except BadNetworkSetting:
        pass


def strong(site: Installation, config: Config) -> Found:
    if not config.has_strong:
        naming = site.command("config", "set", "strong.model=NAME")
        mend = f"none configured, so everything is answered here; name one with: {naming}"
        yield Finding(STRONG, "model", mend)
        return
    server = running(config) if config.endpoints else None
    for each in strong_endpoints(config):
        tried = list[Finding]()
        for finding in _examined(each, config):
            tried.append(finding)
            yield finding
        if config.endpoints:
            yield _state(each, tried, server, config)


def _examined(endpoint: StrongEndpoint, config: Config) -> Found:
    """One endpoint, [strong] itself or another."""
    settings, place = endpoint.settings, endpoint.place
    section = f"Endpoint {endpoint.name}" if endpoint.is_named else STRONG
    yield Finding(section, "model", f"{', '.join(endpoint.models)} at {place.url}")
    key = endpoint.key()
    if isinstance(key, Key):
        yield Finding(section, "key", f"from {key.source}")
    elif endpoint.keyed:
        yield Finding(section, "key", _no_key(settings, key), "bad" if place.is_openai else "note")
    else:
        variable = endpoint.setting("api_key_env")
        yield Finding(section, "key", f"none is sent there; one would be named by {variable}")
    yield _prices(endpoint, section)
    if config.offline:
        yield Finding(section, "reachable", "not asked, for the network is switched off")
        return
    reachable = _reachable(endpoint, section)
    yield reachable
    if reachable.state == "ok":
        yield _access(endpoint, key, section)


def _state(
    endpoint: StrongEndpoint, tried: list[Finding], server: RunningServer | None, config: Config
) -> Finding:
    """How it fares in the server that runs, or else as it was found now."""
    section = tried[0].section
    if server is None:
        state = {finding.name: finding.state for finding in tried}
        works = state.get("reachable") == state.get("access") == "ok"
        word = "not tried" if config.offline else "ready" if works else "would fail, as told above"
        text = f"{word}; no server of edge-router runs at {address(config)}"
        return Finding(section, "state", text, "ok" if works or config.offline else "note")
    known = server.endpoints.get(endpoint.name)
    text = f"{known or 'ready, and was not asked yet'}, in the server at {server.at}"
    if known == "failing":
        text += ": it is left alone, but for one question now and then"
    if known == "cooling":
        text += ": it asked to wait"
    return Finding(section, "state", text, "ok" if known in (None, "ready") else "note")


def _prices(endpoint: StrongEndpoint, section: str) -> Finding:
    """What it costs, and by whose word."""
    prices = endpoint.prices
    if prices is None:
        mend = f"set {endpoint.setting('price_in')} and {endpoint.setting('price_out')}"
        more = "" if listed_prices.is_here() else f", or: python -m pip install 'edge-router[{EXTRA}]'"
        what = f"{PACKAGE} does not know it there" if listed_prices.is_here() else "not known"
        return Finding(section, "prices", f"{what}; for budgets and replay {mend}{more}")
    steps = [f"{each.price_in:g} and {each.price_out:g} above {each.start:,}" for each in prices.steps]
    costs = "; ".join([f"{prices.price_in:g} in, {prices.price_out:g} out for a million tokens", *steps])
    text = f"{costs}, by {'your settings' if prices.source is None else prices.source}"
    return Finding(section, "prices", text)


def _no_key(settings: StrongConfig, key: NoKey) -> str:
    """Where to put one; not into a keyring that can't be asked, as there is none without a desktop."""
    name = settings.api_key_env
    if key.problem is None:
        mend = f"keyring set {settings.keyring_service} {name}"
        return f"none in {name} or the system keyring; put one there: {mend}"
    mend = f"setx {name} YOUR-KEY" if IS_WINDOWS else f"export {name}=YOUR-KEY"
    return f"none in {name}, and the system keyring can't be asked ({key.problem}); set the variable: {mend}"


def _reachable(endpoint: StrongEndpoint, section: str) -> Finding:
    """Only a connection: nothing is sent."""
    url, timeout_s = endpoint.place.url, endpoint.settings.connect_timeout_s
    mend = f"check the network and {endpoint.setting('base_url')} in: edge-router config show"
    try:
        proxy = proxy_for(url)
    except BadNetworkSetting as problem:
        return Finding(section, "reachable", f"no: {problem}", "bad")
    parts = urlsplit(url if proxy is None else proxy.url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 1080)
    what = "" if proxy is None else f" to the proxy {proxy.shown} ({proxy.variable})"
    begin = time.perf_counter()
    try:
        socket.create_connection((parts.hostname or "", port), timeout=timeout_s).close()
    except OSError as error:
        return Finding(section, "reachable", f"no{what} ({error.strerror or error}); {mend}", "note")
    return Finding(section, "reachable", f"connects{what} in {(time.perf_counter() - begin) * 1e3:.0f} ms")


def _access(endpoint: StrongEndpoint, key: Key | NoKey, section: str) -> Finding:
    """Whether the key is taken, by asking for the list of models."""
    from edge_router.engines.remote.probe import probe

    source = key.source if isinstance(key, Key) else None
    try:
        answer = probe(endpoint.settings, key)
    except StrongError as error:
        return Finding(section, "access", told(error), "note")
    if answer.status in (401, 403):
        text = f"the key from {source} was refused (HTTP {answer.status}); replace it there"
        none = f"it wants a key (HTTP {answer.status}) and none was found"
        return Finding(section, "access", text if source else none, "bad")
    if answer.status != 200:
        text = f"could not be tried: GET /models answers HTTP {answer.status}"
        return Finding(section, "access", text, "note")
    taken = "the list of models was given" + (f" to the key from {source}" if source else ", without a key")
    absent = [model for model in endpoint.models if answer.models and model not in answer.models]
    if absent:
        mend = f"check {endpoint.setting('models')} in: edge-router config show"
        return Finding(section, "access", f"{taken}; {', '.join(absent)} is not in it: {mend}", "note")
    return Finding(section, "access", taken)
