"""The weak model in a server that already runs, through the client of the strong engine."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from urllib.parse import urlsplit

from edge_router.chat.events import Event, Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, JsonOutput, Need
from edge_router.config.sections import StrongConfig
from edge_router.config.settings import Config
from edge_router.engines.base import Arriving, Capabilities, Prompt
from edge_router.engines.local.reading.loops import asked_by, by_texts
from edge_router.engines.local_server import NAME
from edge_router.engines.local_server.dialects import OllamaDialect, ServedDialect
from edge_router.engines.local_server.failures import StillLoading, ours
from edge_router.engines.local_server.looking import (
    Reached,
    ServerAccess,
    count_tokens,
    discover,
    known,
    look,
    obtain,
    refreshed,
)
from edge_router.engines.local_server.servers import LocalServer, ServedModel
from edge_router.engines.remote.dialect import Dialect
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.engines.remote.keys import Key, NoKey, find_key
from edge_router.engines.remote.place import ServerPlace, locate
from edge_router.engines.worded import by_logprobs
from edge_router.errors import (
    ConfigError,
    EdgeRouterError,
    EngineUnavailable,
    GenerationFailed,
    InvalidData,
    LocalServerDown,
    ServedModelMissing,
    StrongError,
    UnsupportedRequest,
)
from edge_router.questions.inquiry import Inquiry, InquiryEvent
from edge_router.routing.thresholds.metering import MESSAGE_TOKENS, TokenMeter
from edge_router.surfaces.openai.messages import written_messages
from edge_router.system.paths import Paths
from edge_router.types import Cancel, Progress

_LONGEST_S = 86400.0  # a whole answer may take as long as it likes: it is our own machine
_RETRIES = 1
_AGAIN_S = 0.5  # how often a model that is being loaded is asked for


def load(config: Config, paths: Paths, progress: Progress) -> LocalServerEngine:
    """The configured model in the configured server, or in the first on this machine that has it.

    Raises `ConfigError`, `LocalServerDown`, `ServedModelMissing`, `OutOfMemory`, `EngineUnavailable`.
    """
    asking = _asking(config)
    place = asking.place
    with progress.step("load"):
        reached = look(asking)
        dialect = _dialect(reached.server, ServedModel(config.weak.model), config)
        options = dialect.options if isinstance(dialect, OllamaDialect) else {}
        found = obtain(asking, reached, config.weak.model, options, config.weak.server_timeout_s)
    server, model = found
    if place.here and server.kind == "edge_router" and _port(server.url) in _own_ports(config):
        reason = "is where this very configuration serves: it would ask itself for ever"
        raise ConfigError("weak.base_url", server.url, reason)
    reached = Reached(server, reached.endpoint)
    return LocalServerEngine(
        asking, reached, model, config, calls_tools=_calls_tools(reached, model, config, paths)
    )


def _own_ports(config: Config) -> tuple[int | None, ...]:
    return config.server.port, config.server.ollama_port


def _port(url: str) -> int:
    return urlsplit(url).port or 80


def inspected(config: Config) -> tuple[ServerPlace, LocalServer, ServedModel]:
    """The configured server and model as they are now; nothing is loaded. Raises what `load` does."""
    asking = _asking(config)
    reached = look(asking)
    model = known(asking, reached, config.weak.model)
    return asking.place, reached.server, model


def _asking(config: Config) -> ServerAccess:
    place = located(config)
    if config.offline and not place.here:
        raise EngineUnavailable(NAME, f"the network is switched off, and {place.host} is another machine")
    return ServerAccess(place, _key(config))


_LIKELIEST = 20  # tokens that every server tells beside the one that is taken


def located(config: Config) -> ServerPlace:
    """Where the configuration says, or where its model is found.

    Raises `ConfigError`, `LocalServerDown`, `ServedModelMissing`.
    """
    weak = config.weak
    if weak.base_url is not None:
        return locate(weak.base_url, weak.trusted_hosts)
    found = discover()
    server = next((each for each in found if each.model(weak.model) is not None), None)
    if server is not None:
        return locate(server.url)
    if not found:
        raise LocalServerDown("the usual ports of this machine", "nothing answers", "ollama")
    first = found[0]
    raise ServedModelMissing(weak.model, first.title, first.url, [m.name for m in first.here], first.kind)


def _key(config: Config) -> str | None:
    variable = config.weak.api_key_env
    if variable is None:
        return None
    found = find_key(StrongConfig(api_key_env=variable, keyring_service=config.strong.keyring_service))
    return found.value if isinstance(found, Key) else None


def _dialect(server: LocalServer, model: ServedModel, config: Config) -> Dialect:
    weak = config.weak
    thinks = bool(weak.thinking)
    if server.kind != "ollama":
        return ServedDialect(kind=server.kind, thinks=thinks)
    keep = None if weak.unload_after_s is None else f"{weak.unload_after_s:g}s"
    return OllamaDialect(model, weak.context_window_size, weak.overflow == "window", thinks, keep)


def _calls_tools(reached: Reached, model: ServedModel, config: Config, paths: Paths) -> bool:
    """As of a model that was compiled here: where that was measured, and found good enough."""
    from edge_router.store.tool_skill import find

    if config.weak.tools != "auto":
        return config.weak.tools == "yes"
    try:
        found = find(paths, model.weights(reached.server.kind))
    except InvalidData as error:
        logging.getLogger(__name__).warning("the weak model is asked to call no tools: %s", error)
        return False
    return found is not None and found.passed


class LocalServerEngine:
    """See `engines.base.Engine` for what holds. Several answers at once are the server's own business."""

    def __init__(
        self,
        asking: ServerAccess,
        reached: Reached,
        model: ServedModel,
        config: Config,
        *,
        calls_tools: bool = False,
    ) -> None:
        self._asking, self._reached, self._config = asking, reached, config
        self._model, self._calls_tools = model, calls_tools
        # What is known of it may be wrong: it is yet to be loaded, or was started anew with other settings.
        self._stale = model.loaded is False
        self._lock = threading.Lock()
        dialect = _dialect(reached.server, model, config)
        self._client = _client(reached, dialect, model.name, asking, config)

    @property
    def model_id(self) -> str:
        return self._config.weak.model

    @property
    def leaves(self) -> bool:
        """See `engines.base.Reaching`: a trusted machine is not this one."""
        return not self._asking.place.here

    @property
    def server(self) -> LocalServer:
        return self._reached.server

    @property
    def served(self) -> ServedModel:
        """What is known of the model there."""
        return self._model

    @property
    def capabilities(self) -> Capabilities:
        model, kind = self._model, self.server.kind
        return Capabilities(
            self._serves,
            model.context,
            model.trained,
            weights=model.weights(kind),
            learned_tools=model.tools is not False,
            learned_thoughts=model.thinks,
            # Elsewhere a question is sent with all that holds for it, by whoever knows of that.
            decides=self.server.tells_logprobs and self._asking.place.here,
        )

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        """See `engines.base.Decides`; one question after the other, of which the server keeps the state."""
        return by_logprobs(self, inquiry, cancel, _LIKELIEST)

    @property
    def _serves(self) -> frozenset[Need]:
        found = {Need.JSON}
        if self.server.tells_logprobs:
            found.add(Need.LOGPROBS)
        if self._model.images:
            found.add(Need.IMAGES)
        if self._calls_tools and self._model.tools is not False:
            found.add(Need.TOOLS)
            if self.server.kind != "ollama":  # which takes no tool_choice
                found.add(Need.TOOL_CALL)
        return frozenset(found)

    def prepare(self, request: ChatRequest) -> Prompt:
        """Counted from its bytes, high rather than low, and where it may be too long by a server that can,
        once that has said how much it takes now.

        Raises `UnsupportedRequest` for pictures that the server would have to fetch.
        """
        if self._stale:
            self._refresh()
        _check_images(request.messages)
        count = TokenMeter(request).most().prompt_tokens + MESSAGE_TOKENS * len(request.messages)
        if self._has_room(count):
            return Prompt(request, count)
        self._stale = True  # it may have been started anew, with more
        self._refresh()
        if self._has_room(count):
            return Prompt(request, count)
        told = None
        if request.raw_prompt is None and not request.tools:
            chat = written_messages(request.messages)
            told = count_tokens(self._asking, self._reached, self._model.name, chat)
        return Prompt(request, count if told is None else told)

    def _has_room(self, count: int) -> bool:
        window = self._model.context
        return window is None or count < window

    def stream(self, prompt: Prompt, cancel: Cancel) -> Arriving[Event]:
        """Raises `ContextOverflow`, `LocalServerDown`, `OutOfMemory`, `GenerationFailed`, ..."""
        return self._client.run(lambda: self._answer(prompt.request), cancel)

    async def _answer(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """Once the model is there: a server may say that it is still being loaded."""
        place = self._asking.place
        if request.private and not place.here:
            raise EngineUnavailable(NAME, f"the request is private, and {place.host} is another machine")
        end = time.monotonic() + self._config.weak.server_timeout_s
        while True:
            try:
                async with aclosing(self._written(request)) as events:
                    async for event in events:
                        yield event
                return
            except StrongError as error:
                cause, found = error.__cause__, self._ours(error, request)
            if not isinstance(found, StillLoading) or time.monotonic() > end:
                raise found from cause
            await asyncio.sleep(_AGAIN_S)

    async def _written(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """One try, ended where it goes in circles."""
        loops, echo = self._guard(request), _Echo(request)
        async with aclosing(self._client.events(request)) as events:
            async for come in events:
                for event in echo.without(come):
                    yield event
                    if loops is not None and isinstance(event, TextDelta) and loops(event.text):
                        yield Finished("length", looped=True)
                        return

    def _ours(self, error: StrongError, request: ChatRequest) -> EdgeRouterError:
        self._stale = True
        estimate = TokenMeter(request).most().prompt_tokens
        return ours(error, self.server, self.model_id, prompt=estimate, window=self._model.context)

    @property
    def plan(self) -> None:
        """Its memory is the server's: see `engines.base.Resident`."""
        return None

    @property
    def loaded(self) -> bool:
        """As far as the server tells."""
        return self._model.loaded is not False

    def unload(self) -> None:
        """Where the server can be told to. See `engines.base.Unloading`."""
        if self.server.kind == "ollama":
            with suppress(EngineUnavailable, GenerationFailed):
                obtain(self._asking, self._reached, self._model.name, {"keep_alive": 0}, 5.0)

    def close(self) -> None:
        self._client.close()

    def _refresh(self) -> None:
        with self._lock:
            if not self._stale:
                return
            found = refreshed(self._asking, self._model.name)
            if found is not None:
                context = self._config.weak.context_window_size or found.context or self._model.context
                self._model, self._stale = replace(found, context=context), found.loaded is False

    def _guard(self, request: ChatRequest) -> Callable[[str], bool] | None:
        free = request.raw_prompt is None and not isinstance(request.output, JsonOutput)
        ends = self._config.weak.end_loops and free and not request.callable_tools
        return by_texts(asked_by(request.messages)) if ends else None


class _Echo:
    """An answer that was begun, and that llama.cpp's server says once more before it goes on."""

    def __init__(self, request: ChatRequest) -> None:
        self._begun = request.messages[-1].text if request.continue_final else ""
        self._held = ""

    def without(self, event: Event) -> Iterator[Event]:
        if not self._begun:
            yield event
            return
        if isinstance(event, TextDelta):
            self._held += event.text
            if self._begun.startswith(self._held) and self._held != self._begun:
                return
            event = replace(event, text=self._held.removeprefix(self._begun))
        elif self._held:
            yield TextDelta(self._held)
        self._begun = self._held = ""
        yield event


def _client(
    reached: Reached, dialect: Dialect, model: str, asking: ServerAccess, config: Config
) -> OpenAIEngine:
    endpoint = reached.endpoint
    if not isinstance(dialect, OllamaDialect):
        endpoint = replace(endpoint, url=f"{endpoint.url}/v1")
    wait_s = config.weak.server_timeout_s
    settings = StrongConfig(
        model=model,
        timeout_s=wait_s,
        total_timeout_s=_LONGEST_S,
        max_retries=_RETRIES,
    )
    key = Key(asking.key, "weak.api_key_env") if asking.key else NoKey()
    return OpenAIEngine(settings, keys=lambda _: key, endpoint=endpoint, dialect=dialect, here=True)


def _check_images(messages: Sequence[Message]) -> None:
    if any(message.has_addresses for message in messages):
        raise UnsupportedRequest("messages", "a local server is sent pictures, not addresses of pictures")
