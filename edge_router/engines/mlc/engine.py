"""The engine: prepares prompts, asks the child, and makes events of what comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest, Need
from edge_router.engines.base import Capabilities, Prompt, Restarts
from edge_router.engines.mlc import NAME
from edge_router.engines.mlc.pace import Pace, Stalled
from edge_router.engines.mlc.restarts import Restarting
from edge_router.engines.worded import by_logprobs
from edge_router.errors import ContextOverflow, GenerationFailed, InvalidRequest
from edge_router.questions.inquiry import Inquiry, InquiryEvent
from edge_router.system.worker_process import Line
from edge_router.types import Cancel

if TYPE_CHECKING:
    from edge_router.engines.local.prompt import LocalPrompt
    from edge_router.engines.mlc.answer import MlcThinking
    from edge_router.prompts.directory import ModelDirectory


_LAST = 8  # prompts that are remembered


class MlcEngine:
    """See `engines.base.Engine` for what holds. Several answers at once are MLC's own business."""

    def __init__(
        self,
        child: Restarting,
        pace: Pace,
        directory: ModelDirectory,
        *,
        model_id: str,
        context_window_size: int,
        vocab_size: int,
    ) -> None:
        """`vocab_size` counts the tokens that the model has weights for."""
        from edge_router.engines.local.prompt import Prompter
        from edge_router.engines.local.sampler import SamplingDefaults

        self._child, self._pace, self._directory = child, pace, directory
        self._model_id, self._context_window_size = model_id, context_window_size
        self._vocab_size = vocab_size
        self._by_bytes: Mapping[bytes, int] | None = None
        self._last: deque[Sequence[int]] = deque(maxlen=_LAST)
        self._defaults = SamplingDefaults.from_config(directory.config)
        self.prompts = Prompter(model_id, directory.tokenizer, directory.template, directory.answers)
        self.weights_key: str | None = None  # as of `LocalEngine`, like the next
        self.ends_loops = True

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            frozenset({Need.LOGPROBS, Need.JSON}),
            self._context_window_size,
            weights=self.weights_key,
            learned_thoughts=self._directory.answers.thoughts is not None,
            decides=True,
        )

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        """See `engines.base.Decides`; one question after the other, of which MLC keeps the state."""
        from edge_router.engines.mlc.call import MOST_LOGPROBS

        return by_logprobs(self, inquiry, cancel, MOST_LOGPROBS)

    def prepare(self, request: ChatRequest) -> LocalPrompt:
        """Raises `TemplateError`, `UnsupportedRequest` for tools."""
        return self.prompts.prepare(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        """Raises `ContextOverflow`, `InvalidRequest`, `GenerationFailed`, `Cancelled`."""
        from edge_router.engines.local.prompt import LocalPrompt
        from edge_router.engines.mlc.answer import MlcAnswer
        from edge_router.engines.mlc.call import Calls

        assert isinstance(prompt, LocalPrompt), "prepared by another engine"
        request, window = prompt.request, self._context_window_size
        room = window - len(prompt.tokens)
        if not prompt.tokens:
            raise InvalidRequest("messages", "the prompt is empty")
        if room < 1:
            raise ContextOverflow(len(prompt.tokens), window)
        if max(prompt.tokens) >= self._vocab_size:  # such as a mark of pictures
            raise InvalidRequest("messages", f"holds tokens that {self._model_id} has no weights for")
        calls = Calls.of(request, self._defaults, self._vocab_size, self._directory.end_tokens)
        template, sorting = self._directory.template, self.prompts.sorting(prompt)
        own = template.stops if template is not None and request.raw_prompt is None else ()
        yield from MlcAnswer(
            prompt,
            calls,
            lambda call, tokens: self._lines(call, tokens, cancel),
            tokenizer=self._directory.tokenizer,
            max_tokens=room if request.max_tokens is None else min(request.max_tokens, room),
            stops=[*own, *(request.stop if sorting is None else ())],
            ends_loops=self.ends_loops,
            sorting=sorting,
            thinking=self._thinking(prompt, formed=calls.form is not None),
            tokens=self._tokens,
        ).events()

    @property
    def restarts(self) -> Restarts:
        """See `engines.base.Restartable`."""
        return self._child.restarts

    def close(self) -> None:
        self._child.close()

    def _tokens(self) -> Mapping[bytes, int]:
        """Made when it is first needed, of the whole vocabulary."""
        if self._by_bytes is None:
            spelled = self._directory.tokenizer.vocabulary(self._vocab_size)
            self._by_bytes = {data: token for token, data in enumerate(spelled)}
        return self._by_bytes

    def _new(self, tokens: Sequence[int]) -> int:
        """How many of them come behind what the last prompts began with, which MLC may have kept."""
        shared = max((_shared(tokens, last) for last in list(self._last)), default=0)
        self._last.append(tuple(tokens))
        return len(tokens) - shared

    def _lines(
        self, call: Mapping[str, object], tokens: Sequence[int], cancel: Cancel
    ) -> Generator[Line, None, None]:
        """What the child answers; a child that will not go on is ended, and started again."""
        with (
            self._pace.turn(len(tokens), self._new(tokens)) as turn,
            closing(self._child.call(call, cancel, turn.look)) as lines,
        ):
            try:
                for line in lines:
                    turn.came(self._child.heard)
                    yield line
            except Stalled as error:
                self._child.end(str(error))
                raise GenerationFailed(NAME, f"its process was ended: {error}") from error

    def _thinking(self, prompt: LocalPrompt, *, formed: bool) -> MlcThinking | None:
        """None where nothing has to be known of thoughts: they may go on as they like."""
        from edge_router.engines.local.engine import EFFORTS
        from edge_router.engines.mlc.answer import MlcThinking

        marks, options = self._directory.answers.thoughts, prompt.request.reasoning
        budget = options.max_tokens
        if budget is None and options.effort is not None:
            budget = EFFORTS.get(options.effort)
        if marks is None or not prompt.thinks or (budget is None and not formed):
            return None
        spoken = self._directory.tokenizer.spoken
        opening = () if prompt.opened else spoken(f"{marks.open}\n")
        return MlcThinking(marks.close, opening, spoken(f"\n{marks.close}\n\n"), budget)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    places = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(places, min(len(one), len(other)))
