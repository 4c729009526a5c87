"""The strong model: any endpoint that speaks OpenAI's API, through the official client.

Requests run as tasks of one background event loop, so that one that waits for a silent server can be
cancelled at once. Answers are always asked for as a stream.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from edge_router.chat.events import Event
from edge_router.chat.request import LOCAL_NEEDS, ChatRequest, Need
from edge_router.config.sections import StrongConfig
from edge_router.config.settings import Config
from edge_router.engines.base import Arriving, Capabilities, Prompt
from edge_router.engines.remote.answer import AnswerReader
from edge_router.engines.remote.background import BackgroundLoop
from edge_router.engines.remote.bounds import LARGEST_MESSAGE, SizeMeter, check_message, refuse_longer
from edge_router.engines.remote.deadlines import Deadlines, Watchdog
from edge_router.engines.remote.dialect import Dialect, OpenAIDialect
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.event_stream import EventDecoder
from edge_router.engines.remote.failures import Translator, complaint_of
from edge_router.engines.remote.keys import Key, NoKey, find_key
from edge_router.engines.remote.outcomes import Garbled
from edge_router.engines.remote.secrecy import LogFilter
from edge_router.engines.remote.terms import NO_TERMS, Terms, refused_field
from edge_router.engines.remote.transport import http_library, open_client
from edge_router.errors import (
    EngineUnavailable,
    StrongError,
    StrongNotConfigured,
    StrongUnauthorized,
    StrongUnreachable,
)
from edge_router.response_cache.wish import header_of
from edge_router.system.network import BadNetworkSetting, Proxy, proxy_for
from edge_router.system.paths import Paths
from edge_router.types import Cancel, Progress

if TYPE_CHECKING:
    import openai

UNTOLD = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async", "Raw-Response")
AS_IT_COMES = {"X-Stainless-Raw-Response": "stream"}  # the client's own word for it
NO_KEY = "none"  # the client insists on one; servers without keys look at none
KEPT_HERE = {"X-Edge-Router-Private": "true"}  # where one of ours is asked, it sends nothing on
MOST_MENDS = 16  # changes to one request, one after the other
DRAIN_S = 0.2  # how long to wait for the end of the body after [DONE], so that the connection can be kept


_logger = logging.getLogger(__name__)

# What an endpoint may do; what it does not it says itself.
_SERVES = frozenset(Need) - LOCAL_NEEDS


class OpenAIEngine:
    """Safe to use from any number of threads. Reads no key and opens no connection before it is asked."""

    def __init__(
        self,
        settings: StrongConfig,
        *,
        offline: bool = False,
        keys: Callable[[StrongConfig], Key | NoKey] = find_key,
        endpoint: Endpoint | None = None,
        dialect: Dialect | None = None,
        here: bool = False,
        loop: BackgroundLoop | None = None,
    ) -> None:
        """`endpoint`: where, instead of `strong.base_url`. `here`: on this machine, so that private requests
        may be sent, without the network too, and never by a proxy. `loop`: shared with others, by whoever
        then calls `events` and `disconnect` on it, and closes it.

        Raises `StrongNotConfigured` where no model is named, `ConfigError` for an unusable address.
        """
        if not settings.model:
            raise StrongNotConfigured
        self._model, self._settings, self._offline = settings.model, settings, offline
        self._endpoint = endpoint or Endpoint.parse(settings.base_url)
        self._dialect: Dialect = dialect or OpenAIDialect(newer=self._endpoint.is_openai)
        self._here = here
        self._keys = keys
        self._loop = loop or BackgroundLoop("edge_router-strong")
        # From here on only the loop's thread touches it.
        self._key: Key | NoKey | None = None
        self._key_lock = asyncio.Lock()
        self._client: openai.AsyncOpenAI | None = None
        self._proxy: Proxy | None = None
        self._log_filter = LogFilter()
        self._terms = NO_TERMS  # what this model there was seen not to take

    @property
    def model_id(self) -> str:
        return self._model

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(_SERVES)

    def prepare(self, request: ChatRequest) -> Prompt:
        return Prompt(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Arriving[Event]:
        """The answer of the configured model at the configured address, whatever the request says of either.

        Raises the `StrongError` that fits, with the client's own as its cause. Tries again what may pass,
        as often as the settings say, but only as long as nothing of the answer was yielded.
        """
        return self.run(lambda: self.events(prompt.request), cancel)

    def run(self, source: Callable[[], AsyncGenerator[Event]], cancel: Cancel) -> Arriving[Event]:
        """What `source()` makes of `events`, on their own event loop."""
        return self._loop.iterate(source, cancel)

    def close(self) -> None:
        self._loop.close(self.disconnect)

    def events(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """The answer, for whoever is on the event loop of `run`. Raises what `stream` does."""
        if self._loop.closed:
            raise EngineUnavailable("openai", "it is closed")
        if self._offline and not self._here:
            raise StrongUnreachable(self._endpoint.url, "the network is switched off")
        if request.private and not self._here:
            raise StrongError(self._endpoint.url, "the request is private and must not leave this machine")
        return self._answer(request)

    async def disconnect(self) -> None:
        self._log_filter.stop()
        if self._client is not None:
            await self._client.close()

    async def _answer(self, request: ChatRequest) -> AsyncGenerator[Event]:
        client, attempt, started = await self._connected(), 0, False
        translator, deadlines = self._translator(), self._deadlines()
        terms, mends = self._terms, 0
        while True:
            body = self._dialect.body(request, self._model, terms)
            meter = SizeMeter(request.max_tokens)
            try:
                async for event in self._attempt(client, body, request, translator, deadlines, meter):
                    if not started:
                        self._learn(terms)
                    started = True
                    yield event
                return
            except translator.caught() as error:
                said = None if started else complaint_of(error)
                mended = terms.mended(body, said) if said and mends < MOST_MENDS else None
                if mended is not None:
                    terms, mends = mended, mends + 1
                    continue
                field = None if said is None else refused_field(body, said)
                failure = translator.failure(error, started=started, refused=field)
            # Outside of the handler, so that a cause that shows a key is not its context either.
            wait_s = None if started or attempt >= self._settings.max_retries else failure.wait_s(attempt)
            if wait_s is None or not deadlines.leaves_room(wait_s):
                self._forget_key(failure.error)
                raise failure.error from failure.cause
            attempt += 1
            await asyncio.sleep(wait_s)
            deadlines.again()

    async def _attempt(
        self,
        client: openai.AsyncOpenAI,
        body: Mapping[str, Any],
        request: ChatRequest,
        translator: Translator,
        deadlines: Deadlines,
        meter: SizeMeter,
    ) -> AsyncGenerator[Event]:
        """One request."""
        reader = AnswerReader(
            logprobs=body.get("logprobs") is not None,
            stops=request.stop,
            cuts=body.get("stop") != list(request.stop),
            chunk=self._dialect.chunk,
        )
        held: list[Event] = []  # fields of the endpoint's own before any word: no answer has begun with them
        async with AsyncExitStack() as stack:
            asked = _posted(client, self._dialect.path(body), body, header_of(request.response_cache))
            async with _until(deadlines):
                response = await stack.enter_async_context(asked)
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            asked_whole = not body.get("stream") and kind not in ("text/event-stream", "text/html")
            if kind == "application/json" or asked_whole:
                async with _until(deadlines):
                    whole = await _whole(response)
                for event in reader.read_body(whole):
                    yield event
            elif kind == "text/html":
                raise Garbled("a web page")
            else:
                async for events in self._events(response, reader, translator, deadlines, meter):
                    held += events
                    if reader.has_said:
                        for each in held:
                            yield each
                        held.clear()
        if meter.past_max_tokens:  # which the endpoint does not know: the answer is as long as was asked for
            for each in (*held, *reader.cut()):
                yield each
            return
        if not (reader.complete or reader.events or kind == "text/event-stream"):
            raise Garbled(f"an answer of type {kind or 'unknown'}")
        last = reader.end(may_be_empty="prompt" in body or bool(request.stop))
        for each in (*held, *last):
            yield each

    async def _events(
        self,
        response: Any,
        reader: AnswerReader,
        translator: Translator,
        deadlines: Deadlines,
        meter: SizeMeter,
    ) -> AsyncGenerator[Sequence[Event]]:
        """The events of each chunk up to the end of the body; after [DONE] nothing is an error."""
        clock, drained = asyncio.get_running_loop().time, math.inf
        decoder, pieces = EventDecoder(by_line=self._dialect.by_line), response.iter_bytes()
        with Watchdog(lambda: min(deadlines.when, drained), deadlines.overdue) as watchdog:
            while True:
                try:
                    piece = await watchdog.wait(anext(pieces, None))
                except translator.caught():
                    if not reader.done:
                        raise
                    return
                came, shown, token = clock(), False, False
                if piece is not None:
                    meter.read(len(piece))
                for data in decoder.rest() if piece is None else decoder.feed(piece):
                    if reader.done:  # what follows, in the same piece or later, is read by nobody
                        break
                    events = reader.read(data)
                    if events or reader.said:
                        shown, token = True, token or reader.said
                        meter.take(events, len(data), token=reader.said, held=reader.held)
                        yield events
                        if meter.past_max_tokens:
                            return
                if piece is None:
                    return
                if shown:
                    deadlines.took(came, token=token)
                if reader.done and drained == math.inf:
                    drained = clock() + DRAIN_S
                    watchdog.sooner()

    async def _connected(self) -> openai.AsyncOpenAI:
        """The client, with the key that holds now.

        Raises `EngineUnavailable` for what can't be a key, `StrongUnreachable` for a proxy or certificates
        that can't be used.
        """
        import openai

        async with self._key_lock:
            if self._key is None:
                self._key = await asyncio.to_thread(self._keys, self._settings)
        key, place = self._key, self._endpoint
        if isinstance(key, Key) and not key.fits_a_header:
            self._key = None
            raise EngineUnavailable("openai", f"the key from {key.source} holds characters that no key has")
        if self._client is None:
            settings = self._settings
            try:
                self._proxy = None if self._here else proxy_for(place.url)
                http = open_client(place, self._proxy)
            except BadNetworkSetting as problem:
                raise StrongUnreachable(place.url, str(problem)) from None
            self._client = openai.AsyncOpenAI(
                api_key=NO_KEY,
                base_url=place.url,
                default_query=place.query,
                default_headers=_headers(place) | (KEPT_HERE if self._here else {}),
                timeout=openai.Timeout(None, connect=settings.connect_timeout_s, write=settings.timeout_s),
                max_retries=0,  # retries are ours: the client's can't be cancelled while they wait
                http_client=http,
            )
            if not place.is_openai:  # which the client takes from the environment, for OpenAI's own servers
                self._client.organization = self._client.project = None
        self._client.api_key = key.value if isinstance(key, Key) else NO_KEY
        self._log_filter.secrets = self._secrets()
        self._log_filter.start()
        return self._client

    def _secrets(self) -> tuple[str, ...]:
        """What no error and no log may hold."""
        key = (self._key.value,) if isinstance(self._key, Key) else ()
        return (*self._endpoint.secrets, *key, *(self._proxy.secrets if self._proxy else ()))

    def _deadlines(self) -> Deadlines:
        return Deadlines(self._settings, asyncio.get_running_loop().time)

    def _translator(self) -> Translator:
        key, place = self._key, self._endpoint
        source = place.setting if place.authorization else key.source if isinstance(key, Key) else None
        return Translator(
            endpoint=place.url,
            secrets=self._secrets(),
            key_source=source,
            timeout_s=self._settings.timeout_s,
            connect_timeout_s=self._settings.connect_timeout_s,
            transport=http_library(),
            proxy=self._proxy,
        )

    def _learn(self, terms: Terms) -> None:
        """An answer came on these terms: they hold from now on, and are said once."""
        merged = self._terms.merged(terms.lasting())
        for news in merged.news(self._terms):
            place = f"{self._endpoint.url} ({self._model})"
            _logger.warning("%s refused a request: from now on %s", place, news)
        self._terms = merged

    def _forget_key(self, error: StrongError) -> None:
        """A refused key is looked up anew next time: the user may have replaced it meanwhile."""
        hung = isinstance(self._key, NoKey) and self._key.problem is not None
        if isinstance(error, StrongUnauthorized) and not hung:
            self._key = None


@asynccontextmanager
async def _posted(
    client: openai.AsyncOpenAI, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> AsyncGenerator[Any]:
    """The answer's head; its body is read by whoever wants it, up to the end of the context."""
    options: Any = {"headers": {**AS_IT_COMES, **headers}}
    response: Any = await client.post(path, cast_to=object, body=body, options=options)
    try:
        yield response
    finally:
        await response.close()


@asynccontextmanager
async def _until(deadlines: Deadlines) -> AsyncGenerator[None]:
    """Raises `Overdue` where what is done inside takes too long."""
    try:
        async with asyncio.timeout_at(deadlines.when):
            yield
    except TimeoutError:
        raise deadlines.overdue() from None


async def _whole(response: Any) -> bytes:
    """The body of an answer that is not streamed. Raises `TooLong`."""
    body = bytearray()
    async for piece in response.iter_bytes():
        body += piece
        if len(body) > LARGEST_MESSAGE:
            refuse_longer("an answer", LARGEST_MESSAGE)
    check_message("an answer", body)
    return bytes(body)


def _headers(place: Endpoint) -> dict[str, str]:
    """Beside the key: what we are, and nothing of the system and Python, which the client would tell."""
    import openai

    from edge_router import __version__

    untold: Any = dict.fromkeys((f"X-Stainless-{name}" for name in UNTOLD), openai.Omit())
    own = {"Authorization": place.authorization} if place.authorization else {}
    return {**untold, **own, "User-Agent": f"edge_router/{__version__}"}


def load(config: Config, paths: Paths, progress: Progress) -> OpenAIEngine:
    """The factory of the strong engine "openai". Raises `StrongNotConfigured`, `ConfigError`."""
    return OpenAIEngine(config.strong, offline=config.offline)
