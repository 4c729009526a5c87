"""An endpoint of typed questions: connections, retries, deadlines and bounds are as for the strong model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edge_router.chat.events import Event, Finished, TextDelta
from edge_router.chat.request import ChatRequest, Need, QuestionsOutput
from edge_router.config.questions import NAME, QuestionsConfig
from edge_router.config.settings import Config
from edge_router.engines.base import Capabilities, Prompt
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.engines.remote.keys import NoKey, find_key
from edge_router.engines.remote.place import Resolve, cloud_of, here
from edge_router.engines.remote.question_dialects import DIALECTS, QuestionDialect
from edge_router.errors import ConfigError, InvalidRequest, StrongError, StrongUnreachable
from edge_router.questions.inquiry import Inquiry, InquiryEvent
from edge_router.types import Cancel

SETTING = "questions.base_url"


class QuestionEndpoint:
    """Safe to use from any number of threads. Raises `ConfigError` for an unusable address."""

    def __init__(
        self,
        config: Config,
        own: QuestionsConfig,
        *,
        setting: str = SETTING,
        ways: Sequence[Endpoint] = (),
        retries: int | None = None,
    ) -> None:
        """`own`: which one, whose address stands in `setting`. `ways` to it on this machine, each to be
        tried, see `OpenAIEngine.here`; none: it is elsewhere. `retries`: in place of the strong model's."""
        settings = replace(
            config.strong,
            base_url=own.base_url,
            model=own.model,
            api_key_env=own.api_key_env or "",
            max_retries=config.strong.max_retries if retries is None else retries,
        )
        self._section = setting.partition(".")[0]
        self._dialect: QuestionDialect = DIALECTS[own.protocol]()
        self._engines = [
            OpenAIEngine(
                settings,
                offline=config.offline,
                keys=find_key if own.api_key_env else lambda settings: NoKey(),
                endpoint=way,
                dialect=self._dialect,
                here=bool(ways),
            )
            for way in ways or (Endpoint.parse(own.base_url, setting),)
        ]
        serves = frozenset({Need.QUESTIONS, Need.IMAGES})
        self.capabilities = Capabilities(serves, decides=True, endpoint=NAME)

    @property
    def model_id(self) -> str:
        return self._engines[0].model_id

    def prepare(self, request: ChatRequest) -> Prompt:
        return self._engines[0].prepare(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        """The answers as the text of one, in the endpoint's own words."""
        try:
            yield from self._streamed(prompt, cancel)
        except StrongError as error:
            error.section = self._section  # whose settings say where it is
            raise

    def _streamed(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        *others, last = self._engines
        for engine in others:
            try:
                yield from engine.stream(prompt, cancel)
            except StrongUnreachable:  # a server that listens on one of both loopbacks
                continue
            return
        yield from last.stream(prompt, cancel)

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        """Raises the `StrongError` that fits, `InvalidRequest` for what the protocol has no form for."""
        request = ChatRequest(inquiry.state, output=QuestionsOutput(inquiry.questions))
        for need in sorted(request.needs - self.capabilities.serves):
            raise InvalidRequest(request.name_of(need), f"{self.model_id} takes text and pictures only")
        if not self._dialect.fetches and any(message.has_addresses for message in inquiry.state):
            told = f"{self.model_id} is sent pictures, not addresses of pictures"
            raise InvalidRequest(request.name_of(Need.IMAGES), told)
        text, last = "", Finished("stop")
        for event in self.stream(self.prepare(request), cancel):
            if isinstance(event, TextDelta):
                text += event.text
            elif isinstance(event, Finished):
                last = event
        yield from self._dialect.read(text, inquiry.questions)
        yield last

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


def configured(config: Config) -> QuestionEndpoint:
    """That of `[questions]`. Raises `ConfigError`, also for one elsewhere that is said to be here."""
    own = config.questions
    place = Endpoint.parse(own.base_url, SETTING)
    ways = ways_here(own, place) if own.local else ()
    if own.local and not ways:
        raise ConfigError("questions.local", True, f"{own.model} at {place.url} is on another machine")
    return QuestionEndpoint(config, own, ways=ways)


def ways_here(own: QuestionsConfig, place: Endpoint, resolve: Resolve | None = None) -> tuple[Endpoint, ...]:
    """To a model on this machine; none to what Ollama passes on to its makers, as the model's name says."""
    return () if cloud_of(own.model or "", {}) else here(place, resolve=resolve)
