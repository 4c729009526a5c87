"""Asks the controller and shows its answers: on stdout the answer, on stderr who gave it and why."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from edge_router.chat.events import ReasoningDelta, RefusalDelta, TextDelta
from edge_router.chat.request import ChatRequest, ReasoningOptions
from edge_router.cli.chat import reasons
from edge_router.cli.chat.building import begin, prepare
from edge_router.cli.chat.suggestion import DEMO, suggestion
from edge_router.cli.chat.turn import Turn
from edge_router.cli.session import Session, choose_model, weak_title
from edge_router.cli.terminal import logs, output
from edge_router.config.settings import Config
from edge_router.control.answer import Answer
from edge_router.errors import EdgeRouterError
from edge_router.surfaces.openai.parse import parse_chat
from edge_router.types import Cancel

if TYPE_CHECKING:
    from typing import Self

    from edge_router.api.client import Controller
    from edge_router.ledger import Record

Message = dict[str, str]


class Interrupted(Exception):
    """Ctrl-C ended an answer. `text` is what there was of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__("the answer was stopped")


class Out(Protocol):
    """Where an answer goes and what is said beside it; `cli.output` is one."""

    def write(self, text: str) -> None: ...
    def write_json(self, value: object) -> None: ...
    def say(self, text: str, *, style: str = "") -> None: ...
    def murmur(self, text: str) -> None: ...
    def part(self) -> None: ...


class Speaker:
    """A controller with the model to ask, the fields of every request (OpenAI's names) and how to think.

    `left` is set where nobody listens any more.
    """

    def __init__(
        self,
        session: Session,
        config: Config,
        *,
        yes: bool,
        fields: Mapping[str, object],
        reasoning: ReasoningOptions,
        out: Out = output,
        left: Cancel | None = None,
    ) -> None:
        self._session, self._config, self._yes, self._fields = session, config, yes, fields
        self._reasoning, self._out, self._left = reasoning, out, left
        self._controller: Controller = session.controller(config)
        self.model = "auto"
        self.last: Answer | None = None
        self._turn: Turn | None = None
        self._suggested = self._cannot_think_said = False

    def use(self, name: str | None) -> None:
        """Ask `name` from now on. Raises `UnknownModel`, and then nothing has changed."""
        config, model = choose_model(name, self._config, self._controller.model_names())
        if config is not self._config:
            fresh = self._session.controller(config)
            self._controller.close()
            self._config, self._controller = config, fresh
        self.model = model

    def set(self, name: str, value: object) -> None:
        """A field of all requests to come, by OpenAI's name; None: as without it. Raises `InvalidRequest`."""
        before = self._fields
        self._fields = {**before, name: value}
        try:
            self._request([{"role": "user", "content": "?"}])
        except EdgeRouterError:
            self._fields = before
            raise

    def think(self, wanted: bool | None) -> None:
        """Whether the weak model may think from now on, with its thoughts shown; None: as configured."""
        self._reasoning = ReasoningOptions(enabled=wanted or None, shown=wanted is not False)
        self._cannot_think_said = False

    @property
    def settings(self) -> Mapping[str, object]:
        """The fields of requests that somebody has set."""
        thinking = {"thinking": True if self._reasoning.enabled else None if self._reasoning.shown else False}
        return {name: value for name, value in {**self._fields, **thinking}.items() if value is not None}

    def begin(self) -> None:
        """Load what will be asked while the question is still typed; what is wrong is told to who asks."""
        with contextlib.suppress(EdgeRouterError):
            begin(self._session, self._config, self._controller, self.model)

    def once(self, text: str, system: str | None, before: Sequence[Message] = ()) -> str:
        """One question, behind the messages `before` it; one answer. Ctrl-C ends the program."""
        messages = [*system_message(system), *before, {"role": "user", "content": text}]
        try:
            answered = self.ask(messages)
        except Interrupted:
            raise SystemExit(output.INTERRUPTED) from None
        if self._session.json:
            self._out.write_json(_report(answered, self._answer))
        return answered

    def ask(self, messages: Sequence[Message]) -> str:
        """The answer's text, which has been shown by then. Raises `EdgeRouterError`, `Interrupted`."""
        request, parts = self._request(messages), list[str]()
        try:
            if self._out is output:  # else by a model that is loaded
                prepare(self._session, self._config, self._controller, request, yes=self._yes)
            self._turn = Turn(self._controller, request, self._left)
            self.last = answer = self._turn.answer()
            with logs.held() if self._out is output else contextlib.nullcontext():
                try:
                    self._show(answer, self._turn, parts)
                finally:
                    self._end_line(parts)
        except KeyboardInterrupt:
            self._stop()
            raise Interrupted("".join(parts)) from None
        except BaseException:
            self._stop()
            raise
        if not self._session.options.quiet and not self._session.json:
            self._out.say(reasons.credit(answer), style="dim")
            self._suggest(answer)
        return "".join(parts)

    def _show(self, answer: Answer, turn: Turn, parts: list[str]) -> None:
        for remark in (reasons.fallback(answer), reasons.truncation(answer)):
            if remark is not None:
                self._out.say(remark, style="yellow")
        self._say_that_it_cannot_think(answer)
        thinking = False
        for event in turn:
            if isinstance(event, ReasoningDelta) and event.text and answer.request.reasoning.shown:
                thinking = True
                if not self._session.json:
                    self._out.murmur(event.text)
            elif isinstance(event, TextDelta | RefusalDelta):
                if thinking and not self._session.json:
                    self._out.murmur("\n\n")
                thinking = False
                parts.append(event.text)
                if not self._session.json:
                    self._out.write(event.text)

    def _say_that_it_cannot_think(self, answer: Answer) -> None:
        """Once, where thoughts are asked of a model that has none."""
        if not self._reasoning.enabled or self._cannot_think_said or answer.decision.model != "weak":
            return
        if self._controller.model("weak").reasons is False:
            self._cannot_think_said = True
            self._out.say(f"{answer.model} has not learned to think; it answers without.", style="yellow")

    def _suggest(self, answer: Answer) -> None:
        """Once: the demo model shows that it works, and a real one is a command away."""
        if self._suggested or answer.model != DEMO:
            return
        self._suggested = True
        found = suggestion(self._config, self._session.paths)
        if found is not None:
            self._out.say(
                f"This was the demo model; {found.words(self._session.options.config)}", style="dim"
            )

    def _stop(self) -> None:
        if self._turn is not None:
            self._turn.stop()

    def rate(self, rating: Literal[1, -1]) -> Record | None:
        """Thumbs up or down for the last answer; None where the ledger does not have it."""
        number = None if self.last is None else self.last.record_id
        return None if number is None else self._controller.rate(number, rating)

    def close(self) -> None:
        """Where an engine did not stop in time, the process ends at once instead of waiting for it."""
        self._stop()
        if self._turn is not None and self._turn.is_running:
            output.leave(output.INTERRUPTED)
        self._controller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def title(self) -> str:
        """Whom it asks, in words."""
        return weak_title(self._config) if self.model == "weak" else self.model

    @property
    def models(self) -> dict[str, str]:
        """Whom it may ask, in words, weak and strong."""
        return {"weak": weak_title(self._config), "strong": self._config.strong_title or "none"}

    @property
    def _answer(self) -> Answer:
        assert self.last is not None
        return self.last

    def _request(self, messages: Sequence[Message]) -> ChatRequest:
        given = {name: value for name, value in self._fields.items() if value is not None}
        request = parse_chat({**given, "messages": list(messages), "model": self.model}).request
        return replace(request, reasoning=self._reasoning)

    def _end_line(self, parts: Sequence[str]) -> None:
        """An answer ends with a line, so that what follows begins on one of its own."""
        if self._session.json or not parts:
            return
        if not "".join(parts).endswith("\n"):
            self._out.write("\n")
        self._out.part()


def system_message(text: str | None) -> list[Message]:
    return [{"role": "system", "content": text}] if text else []


def _report(text: str, answer: Answer) -> dict[str, object]:
    """The contract of `chat --json`."""
    usage, cause = answer.usage, answer.fallback_cause
    return {
        "text": text,
        "model": answer.model,
        "decision": answer.decision.to_dict(),
        "fallback_cause": None if cause is None else {"type": type(cause).__name__, "message": str(cause)},
        "usage": {
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
        },
        "timings": answer.timings.to_dict(),
    }
