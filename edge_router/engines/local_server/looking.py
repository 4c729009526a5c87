"""Looking at a local server: what it is, which models it has, and getting one of them into its memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from edge_router.engines.local_server.failures import refusal
from edge_router.engines.local_server.servers import (
    LocalServer,
    ServedModel,
    read_server,
    running_entry,
    shown_model,
)
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.place import ServerPlace, locate
from edge_router.engines.remote.question_client import EndpointReply, ask
from edge_router.engines.remote.secrecy import LogFilter
from edge_router.engines.remote.transport import Redirected, http_library, open_client
from edge_router.errors import ConfigError, LocalServerDown, ServedModelMissing
from edge_router.records import dataclass

T = TypeVar("T")

PORTS = (11434, 1234, 8080, 8000)  # Ollama's, LM Studio's, llama.cpp's, vLLM's and mlc_llm's
CONNECT_S, LOOK_S = 2.0, 5.0
_LOADS_S = 0.5  # how often a server that loads is looked at
_SETTING = "as weak.server_timeout_s says"
_USUALLY = {11434: "ollama", 1234: "lmstudio", 8080: "llama.cpp"}
_QUESTIONS = {
    "models": "/v1/models",
    "version": "/api/version",
    "tags": "/api/tags",
    "props": "/props",
    "listed": "/api/v0/models",
}


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """How one server is asked. `key` goes along where it wants one."""

    place: ServerPlace
    key: str | None = None

    @property
    def authorization(self) -> str | None:
        found = self.place.endpoints[0].authorization
        return found or (f"Bearer {self.key}" if self.key else None)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (*self.place.endpoints[0].secrets, *([self.key] if self.key else ()))


@dataclass(frozen=True, slots=True)
class Reached:
    """A server, and the one of its addresses at which it answered."""

    server: LocalServer
    endpoint: Endpoint


def look(asking: ServerAccess, *, limit_s: float = LOOK_S) -> Reached:
    """Raises `LocalServerDown` where nothing answers, or nothing that is known here."""
    return _run(_looked(asking, limit_s), asking)


def obtain(
    asking: ServerAccess, reached: Reached, name: str, options: Mapping[str, object], limit_s: float
) -> tuple[LocalServer, ServedModel]:
    """The server as it is then, and the model of that name: in its memory, if it can be told to load it.

    `options`: as for a question. Raises `ServedModelMissing`, `OutOfMemory`, `LocalServerDown`, and
    `ConfigError` for a model that runs on another machine.
    """
    return _run(_obtained(asking, reached, name, options, limit_s), asking)


def known(asking: ServerAccess, reached: Reached, name: str) -> ServedModel:
    """What is told of it now; nothing is loaded for it. Raises `ServedModelMissing`, `LocalServerDown`."""
    return _run(_known(asking, reached.server, name, reached.endpoint), asking)


def refreshed(asking: ServerAccess, name: str) -> ServedModel | None:
    """The same of a server that may have been started anew; None where it does not tell.

    Raises `ConfigError` for a model that runs on another machine by now.
    """
    try:
        reached = look(asking)
        model = known(asking, reached, name)
    except (LocalServerDown, ServedModelMissing):
        return None
    _check_here(reached.server, model, name)
    return model


def count_tokens(
    asking: ServerAccess, reached: Reached, model: str, messages: Sequence[object]
) -> int | None:
    """Of a chat in OpenAI's form, by a server that tells; None where it does not."""
    if reached.server.kind not in ("llama.cpp", "vllm"):
        return None
    try:
        return _run(_counted(asking, reached, model, messages), asking)
    except LocalServerDown:
        return None


def discover(
    ports: Sequence[int] = PORTS, *, environ: Mapping[str, str] | None = None, limit_s: float = CONNECT_S
) -> list[LocalServer]:
    """What runs on this machine, at the usual ports and where OLLAMA_HOST says."""
    places = [locate(f"http://127.0.0.1:{port}") for port in ports]
    own = (os.environ if environ is None else environ).get("OLLAMA_HOST", "").strip()
    if own:
        try:
            found = locate(own if ":" in own.rpartition("//")[2] else f"{own}:11434")
            places += [found] if found.endpoints[0].url not in {p.endpoints[0].url for p in places} else []
        except ConfigError:
            pass  # another machine's, or none

    async def all_of_them() -> list[Reached | None]:
        return await asyncio.gather(*(_tried(ServerAccess(place), limit_s) for place in places))

    return [reached.server for reached in asyncio.run(all_of_them()) if reached is not None]


async def _tried(asking: ServerAccess, limit_s: float) -> Reached | None:
    try:
        return await _looked(asking, limit_s)
    except LocalServerDown:
        return None


def _run(work: Coroutine[Any, Any, T], asking: ServerAccess) -> T:
    logs = LogFilter(asking.secrets)
    logs.start()
    try:
        return asyncio.run(work)
    finally:
        logs.stop()


async def _looked(asking: ServerAccess, limit_s: float) -> Reached:
    reason = "nothing answers"
    for endpoint in asking.place.endpoints:
        try:
            server = await _read(endpoint, asking, limit_s)
        except LocalServerDown as error:
            reason = error.reason
            continue
        if server is not None:
            return Reached(server, endpoint)
        reason = "what answers there is no server of language models"
    place = asking.place.endpoints[0]
    raise LocalServerDown(place.told, reason, _USUALLY.get(urlsplit(place.url).port or 0, ""))


async def _read(endpoint: Endpoint, asking: ServerAccess, limit_s: float = LOOK_S) -> LocalServer | None:
    async def answers(client: Any) -> dict[str, EndpointReply]:
        # One after the other: some servers write a warning for each path that they do not know.
        found: dict[str, EndpointReply] = {}
        for name, path in _QUESTIONS.items():
            if name == "tags" and found["version"].facts is None:
                continue
            found[name] = await ask(client, endpoint, path, authorization=asking.authorization)
        return found

    replies = await _asked(endpoint, answers, limit_s)
    models = replies["models"]
    if models.status in (401, 403):
        raise LocalServerDown(endpoint.told, f"it wants a key (HTTP {models.status}), see weak.api_key_env")
    if models.status == 503 and _is_loading(models):
        return LocalServer("llama.cpp", endpoint.url, loading=True)
    return read_server(endpoint.url, **{name: reply.facts for name, reply in replies.items()})


def _is_loading(reply: EndpointReply) -> bool:
    """As llama.cpp's server says it."""
    error = (reply.said or {}).get("error")
    return isinstance(error, dict) and error.get("type") == "unavailable_error"


async def _obtained(
    asking: ServerAccess, reached: Reached, name: str, options: Mapping[str, object], limit_s: float
) -> tuple[LocalServer, ServedModel]:
    server = await _loaded(asking, reached, name, limit_s) if reached.server.loading else reached.server
    model = await _known(asking, server, name, reached.endpoint)
    _check_here(server, model, name)
    if server.kind != "ollama":
        return server, model
    await _load(asking, reached, model.name, options, limit_s)
    return server, await _shown(asking, reached.endpoint, model)


def _check_here(server: LocalServer, model: ServedModel, name: str) -> None:
    if model.elsewhere:
        reason = f"runs at {model.elsewhere}, not on this machine: {server.title} only passes questions on"
        raise ConfigError("weak.model", name, reason)


async def _known(asking: ServerAccess, server: LocalServer, name: str, endpoint: Endpoint) -> ServedModel:
    model = server.model(name)
    if model is None:
        names = [each.name for each in server.here]
        raise ServedModelMissing(name, server.title, server.url, names, server.kind)
    return await _shown(asking, endpoint, model) if server.kind == "ollama" else model


async def _shown(asking: ServerAccess, endpoint: Endpoint, model: ServedModel) -> ServedModel:
    """Of Ollama's."""

    async def answers(client: Any) -> ServedModel:
        key, body = asking.authorization, {"model": model.name}
        show = await ask(client, endpoint, "/api/show", body, authorization=key)
        ps = await ask(client, endpoint, "/api/ps", authorization=key)
        return shown_model(model, show.facts or {}, running_entry(ps.facts, model.name))

    return await _asked(endpoint, answers)


async def _load(
    asking: ServerAccess, reached: Reached, name: str, options: Mapping[str, object], limit_s: float
) -> None:
    """Of Ollama's: an empty conversation loads its model."""

    async def answers(client: Any) -> EndpointReply:
        body = {"model": name, "messages": [], "stream": False, **options}
        return await ask(client, reached.endpoint, "/api/chat", body, authorization=asking.authorization)

    reply = await _asked(reached.endpoint, answers, limit_s)
    if reply.status != 200:
        said = str((reply.said or {}).get("error", ""))
        raise refusal(reached.server, name, reply.status, said)


async def _loaded(asking: ServerAccess, reached: Reached, name: str, limit_s: float) -> LocalServer:
    """llama.cpp's, which listens before its model is there. Raises `LocalServerDown`."""
    end = time.monotonic() + limit_s
    while True:
        server = await _read(reached.endpoint, asking)
        if server is not None and not server.loading:
            return server
        if time.monotonic() > end:
            raise LocalServerDown(
                reached.endpoint.url, f"{name} was not loaded within {limit_s:g} s, {_SETTING}"
            )
        await asyncio.sleep(_LOADS_S)


async def _counted(
    asking: ServerAccess, reached: Reached, model: str, messages: Sequence[object]
) -> int | None:
    async def answers(client: Any) -> object:
        async def told(path: str, **body: object) -> Mapping[str, Any]:
            return (
                await ask(client, reached.endpoint, path, body, authorization=asking.authorization)
            ).facts or {}

        if reached.server.kind == "vllm":
            return (await told("/tokenize", model=model, messages=list(messages))).get("count")
        prompt = (await told("/apply-template", messages=list(messages))).get("prompt")
        if not isinstance(prompt, str):
            return None
        tokens = (await told("/tokenize", content=prompt, add_special=True)).get("tokens")
        return len(tokens) if isinstance(tokens, list) else None

    found = await _asked(reached.endpoint, answers)
    return found if isinstance(found, int) else None


async def _asked(endpoint: Endpoint, questions: Callable[[Any], Awaitable[T]], limit_s: float = LOOK_S) -> T:
    """Raises `LocalServerDown`."""
    async with open_client(endpoint, None) as client:
        try:
            async with asyncio.timeout(limit_s):
                return await questions(client)
        except TimeoutError:
            setting = f", {_SETTING}" if limit_s != LOOK_S else ""
            raise LocalServerDown(endpoint.told, f"no answer within {limit_s:g} s{setting}") from None
        except Redirected as error:
            raise LocalServerDown(
                endpoint.told, f"it points to {error.target}, which is not followed"
            ) from None
        except (http_library().HTTPError, http_library().InvalidURL, OSError) as error:
            raise LocalServerDown(endpoint.told, _words(error)) from None


def _words(error: BaseException) -> str:
    """The system's own where it has some."""
    found = [error]
    while (inner := found[-1].__cause__ or found[-1].__context__) is not None and inner not in found:
        found.append(inner)
    for each in reversed(found):
        if isinstance(each, OSError) and each.errno:
            return os.strerror(each.errno)
    return str(error) or type(error).__name__
