"""The engine: prepares prompts, asks the child, and makes events of what comes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_router.chat.events import Event, Finished, FinishReason, Usage
from edge_router.chat.request import ChatRequest, Need
from edge_router.engines.base import Capabilities, Prompt, Restarts
from edge_router.engines.local.loops import asked_by, by_texts
from edge_router.engines.mlc import NAME
from edge_router.engines.mlc.call import call_for
from edge_router.engines.mlc.chunks import delta_of, error_of, finish_of
from edge_router.engines.mlc.pace import Pace, Stalled
from edge_router.engines.process import Line
from edge_router.engines.restarts import Restarting
from edge_router.errors import GenerationFailed
from edge_router.types import Cancel

if TYPE_CHECKING:
    from edge_router.engines.local.sorting import Sorting
    from edge_router.prompts.directory import ModelDirectory


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

        self._child, self._pace, self._directory = child, pace, directory
        self._model_id, self._context_window_size = model_id, context_window_size
        self._vocab_size = vocab_size
        self.prompts = Prompter(model_id, directory.tokenizer, directory.template, directory.answers)
        self.weights_key: str | None = None  # as of `LocalEngine`, like the next
        self.ends_loops = True

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            frozenset({Need.LOGPROBS}),
            self._context_window_size,
            weights=self.weights_key,
            learned_thoughts=self._directory.answers.thoughts is not None,
        )

    def prepare(self, request: ChatRequest) -> Prompt:
        """Without a count where only MLC knows how a prompt looks. Raises `TemplateError`."""
        if request.raw_prompt is None and self._directory.template is None:
            return Prompt(request)
        return self.prompts.prepare(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        """Raises `ContextOverflow`, `InvalidRequest`, `GenerationFailed`, `Cancelled`."""
        finish: FinishReason | None = None
        usage: Usage | None = None
        sorting = self._sorting(prompt)
        loops = self._guard(prompt.request)
        call = call_for(
            prompt,
            self._model_id,
            self._context_window_size,
            self._vocab_size,
            sorted_here=sorting is not None,
        )
        with closing(self._lines(call, prompt, cancel)) as lines:
            for line in lines:
                if "error" in line:
                    raise error_of(line)
                if line.get("usage"):
                    usage = Usage(line["usage"]["prompt_tokens"], line["usage"]["completion_tokens"])
                for choice in line.get("choices", ()):
                    delta = delta_of(choice)
                    if delta.text or delta.logprobs:
                        yield from [delta] if sorting is None else sorting.push(delta.text, delta.logprobs)
                        if sorting is not None and sorting.stopped:
                            used = _with_thoughts(usage, sorting)
                            yield Finished("stop", used, stop_sequence=sorting.stop)
                            return
                        if loops is not None and loops(delta.text):
                            yield from () if sorting is None else sorting.end()
                            yield Finished("length", _with_thoughts(usage, sorting), looped=True)
                            return
                    finish = finish_of(choice) or finish
        if finish is None:
            raise GenerationFailed(NAME, "the answer has no end")
        yield from () if sorting is None else sorting.end()
        yield Finished(finish, _with_thoughts(usage, sorting))

    @property
    def restarts(self) -> Restarts:
        """See `engines.base.Restartable`."""
        return self._child.restarts

    def close(self) -> None:
        self._child.close()

    def _lines(
        self, call: Mapping[str, object], prompt: Prompt, cancel: Cancel
    ) -> Generator[Line, None, None]:
        """What the child answers; a child that will not go on is ended, and started again."""
        with (
            self._pace.turn(_length(prompt)) as turn,
            closing(self._child.call(call, cancel, turn.look)) as lines,
        ):
            try:
                for line in lines:
                    turn.came(self._child.heard)
                    yield line
            except Stalled as error:
                self._child.end(str(error))
                raise GenerationFailed(NAME, f"its process was ended: {error}") from error

    def _guard(self, request: ChatRequest) -> Callable[[str], bool] | None:
        ends = self.ends_loops and request.raw_prompt is None
        return by_texts(asked_by(request.messages)) if ends else None

    def _sorting(self, prompt: Prompt) -> Sorting | None:
        from edge_router.engines.local.prompt import LocalPrompt

        return self.prompts.sorting(prompt) if isinstance(prompt, LocalPrompt) else None


def _length(prompt: Prompt) -> int:
    """In tokens; where MLC makes the prompt itself, in letters, of which each token has at least one."""
    return prompt.count or sum(len(turn.text) for turn in prompt.request.messages)


def _with_thoughts(usage: Usage | None, sorting: Sorting | None) -> Usage | None:
    """A text that comes is a token."""
    if usage is None or sorting is None:
        return usage
    return replace(usage, reasoning_tokens=min(sorting.thoughts, usage.completion_tokens))
