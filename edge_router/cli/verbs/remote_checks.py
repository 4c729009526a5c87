"""What `doctor` looks at beyond this machine: proxies, certificates, the strong model and its key."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import urlsplit

from edge_router.cli.failures import told
from edge_router.cli.findings import Finding, Found, State
from edge_router.cli.session import Session
from edge_router.config import Config, StrongConfig
from edge_router.engines.keys import Key, NoKey
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.errors import StrongError
from edge_router.network import BadNetworkSetting, certificate_setting, problems, proxy_for

STRONG, NETWORK = "Strong model", "Network"
IS_WINDOWS = os.name == "nt"


def network(config: Config) -> Found:
    """Proxies and certificates of the environment."""
    state: State = "note" if config.offline else "bad"
    found = [Finding(NETWORK, problem.variable, str(problem), state) for problem in problems()]
    yield from found
    if config.strong.model is not None:
        url = Endpoint.parse(config.strong.base_url).url
        try:
            proxy = proxy_for(url)
            way = f"by way of {proxy.shown} ({proxy.variable})" if proxy else "without a proxy"
            yield Finding(NETWORK, "proxy", f"{url} is asked {way}")
        except BadNetworkSetting:
            pass  # said already
    elif not found:
        yield Finding(NETWORK, "proxy", "every variable that names one can be used, or there is none")
    try:
        variable = certificate_setting()
        text = f"those that {variable} names" if variable else "the system's"
        yield Finding(NETWORK, "certificates", text)
    except BadNetworkSetting:
        pass


def strong(session: Session, config: Config) -> Found:
    from edge_router.engines.keys import find_key

    settings = config.strong
    if settings.model is None:
        naming = session.command("config", "set", "strong.model=NAME")
        mend = f"none configured, so everything is answered here; name one with: {naming}"
        yield Finding(STRONG, "model", mend)
        return
    endpoint = Endpoint.parse(settings.base_url)
    yield Finding(STRONG, "model", f"{settings.model} at {endpoint.url}")
    key = find_key(settings)
    if isinstance(key, Key):
        yield Finding(STRONG, "key", f"from {key.source}")
    else:
        yield Finding(STRONG, "key", _no_key(settings, key), "bad" if endpoint.is_openai else "note")
    if config.offline:
        yield Finding(STRONG, "reachable", "not asked, for the network is switched off")
        return
    reachable = _reachable(endpoint.url, settings.connect_timeout_s)
    yield reachable
    if reachable.state == "ok":
        yield _access(settings, key)


def _no_key(settings: StrongConfig, key: NoKey) -> str:
    """Where to put one; not into a keyring that can't be asked, as there is none without a desktop."""
    name = settings.api_key_env
    if key.problem is None:
        mend = f"keyring set {settings.keyring_service} {name}"
        return f"none in {name} or the system keyring; put one there: {mend}"
    mend = f"setx {name} YOUR-KEY" if IS_WINDOWS else f"export {name}=YOUR-KEY"
    return f"none in {name}, and the system keyring can't be asked ({key.problem}); set the variable: {mend}"


def _reachable(url: str, timeout_s: float) -> Finding:
    """Only a connection: nothing is sent."""
    mend = "check the network and strong.base_url in: edge-router config show"
    try:
        proxy = proxy_for(url)
    except BadNetworkSetting as problem:
        return Finding(STRONG, "reachable", f"no: {problem}", "bad")
    parts = urlsplit(url if proxy is None else proxy.url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 1080)
    what = "" if proxy is None else f" to the proxy {proxy.shown} ({proxy.variable})"
    begin = time.perf_counter()
    try:
        socket.create_connection((parts.hostname or "", port), timeout=timeout_s).close()
    except OSError as error:
        return Finding(STRONG, "reachable", f"no{what} ({error.strerror or error}); {mend}", "note")
    return Finding(STRONG, "reachable", f"connects{what} in {(time.perf_counter() - begin) * 1e3:.0f} ms")


def _access(settings: StrongConfig, key: Key | NoKey) -> Finding:
    """Whether the key is taken, by asking for the list of models."""
    from edge_router.engines.remote.probe import probe

    source = key.source if isinstance(key, Key) else None
    try:
        answer = probe(settings, key)
    except StrongError as error:
        return Finding(STRONG, "access", told(error), "note")
    if answer.status in (401, 403):
        text = f"the key from {source} was refused (HTTP {answer.status}); replace it there"
        none = f"it wants a key (HTTP {answer.status}) and none was found"
        return Finding(STRONG, "access", text if source else none, "bad")
    if answer.status != 200:
        text = f"could not be tried: GET /models answers HTTP {answer.status}"
        return Finding(STRONG, "access", text, "note")
    taken = "the list of models was given" + (f" to the key from {source}" if source else ", without a key")
    if answer.models and settings.model not in answer.models:
        mend = "check strong.model in: edge-router config show"
        return Finding(STRONG, "access", f"{taken}; {settings.model} is not in it: {mend}", "note")
    return Finding(STRONG, "access", taken)
