"""From a request to the tokens that a local model reads, and to what sorts its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, Need, ReasoningOptions, Tool
from edge_router.engines.base import Prompt
from edge_router.engines.local.reading.answer_parts import AnswerParts
from edge_router.engines.local.reading.sorting import Sorting
from edge_router.errors import TemplateError, UnsupportedRequest
from edge_router.prompts.answer_format import AnswerFormat
from edge_router.prompts.infill import Infill
from edge_router.prompts.template import Template
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.records import dataclass

PLACE = "qzjquestionjzq"  # stands for what is said, or asked


@dataclass(frozen=True, slots=True)
class LocalPrompt(Prompt):
    """`opened`: it ends within thoughts. `thinks`: they come, there or in the answer."""

    tokens: Sequence[int] = ()
    opened: bool = False
    thinks: bool = False


@dataclass(frozen=True, slots=True)
class _Written:
    """What a template makes of a request, `begin` before it; the rest is as in `LocalPrompt`."""

    begin: tuple[int, ...]
    text: str
    opened: bool
    thinks: bool


class Prompter:
    """Of one model. Safe to use from many threads. `thinks`: where the request does not say, and the template
    has a word for it.
    """

    def __init__(
        self, model_id: str, tokenizer: TextTokenizer, template: Template | None, answers: AnswerFormat
    ) -> None:
        self._model_id, self._tokenizer, self._template, self._answers = (
            model_id,
            tokenizer,
            template,
            answers,
        )
        self.thinks = False
        self.infill = Infill.of(tokenizer, model_id)

    def prepare(self, request: ChatRequest) -> LocalPrompt:
        """Raises `TemplateError`, `UnsupportedRequest` for tools of which a model can't be told."""
        if request.raw_prompt is not None and request.suffix is not None:
            if self.infill is None:
                reason = f"{self._model_id} was not taught to write the text between two others"
                raise UnsupportedRequest(request.name_of(Need.SUFFIX), reason)
            tokens = self.infill.prompt(request.raw_prompt, request.suffix)
            return LocalPrompt(request, len(tokens), tokens)
        if request.raw_prompt is not None:
            tokens = self._tokenizer.encode(request.raw_prompt, special=True)
            return LocalPrompt(request, len(tokens), tokens)
        written = self._written(request)
        tokens = [*written.begin, *self._tokenizer.encode(written.text)]
        return LocalPrompt(request, len(tokens), tokens, written.opened, written.thinks)

    def around(self, request: ChatRequest, place: str) -> tuple[list[int], str]:
        """What comes before `place` in the last message that has it, as tokens, and the text behind it.

        Raises what `prepare` does.
        """
        written = self._written(request)
        before, found, behind = written.text.rpartition(place)
        if not found:
            raise TemplateError(self._model_id, "it leaves out what is said")
        return [*written.begin, *self._tokenizer.encode(before)], behind

    def beginning(self, request: ChatRequest) -> Sequence[int]:
        """The tokens before a request's first turn, whatever that says: its system messages and its tools.
        None where the template puts something else first."""
        system = system_messages(request)
        if not system and not callable_here(request):
            return ()
        alike = replace(request, messages=(*system, Message("user", PLACE)), continue_final=False)
        try:
            return self.around(alike, PLACE)[0]
        except TemplateError:
            return ()

    def _written(self, request: ChatRequest) -> _Written:
        if self._template is None:
            raise TemplateError(self._model_id, "neither its tokenizer nor its conv_template tells of one")
        tools, reasoning = callable_here(request), self._reasoning(self._template, request.reasoning)
        if tools and self._answers.calls is None:
            reason = f"{self._model_id} has not learned to call tools"
            raise UnsupportedRequest(request.name_of(Need.TOOLS), reason)
        guard = self._tokenizer.guard
        messages, begun = request.messages, ""
        if request.continue_final:
            messages, begun = messages[:-1], guard(messages[-1].text, own=True)
        text = self._template.render(messages, tools=tools, reasoning=reasoning, guard=guard)
        marks, opened = self._answers.thoughts, self._answers.inside(text)
        if opened and marks is not None and (begun or reasoning.enabled is False):
            text, opened = f"{text}\n{marks.close}\n\n", False
        thinks = opened or (marks is not None and reasoning.enabled is True and not begun)
        return _Written(self._template.begin, text + begun, opened, thinks)

    def sorting(self, prompt: LocalPrompt) -> Sorting | None:
        """None where an answer is text and nothing else."""
        request = prompt.request
        tools = callable_here(request)
        if request.raw_prompt is not None or not (tools or self._answers.thoughts):
            return None
        parts = AnswerParts(self._answers, tools=tools, thinking=prompt.opened)
        return Sorting(parts, request.stop, request.reasoning.shown)

    def _reasoning(self, template: Template, asked: ReasoningOptions) -> ReasoningOptions:
        """As asked, else as the setting says, where the template has a word for it."""
        if asked.enabled is not None:
            return asked
        if asked.effort is not None:
            return replace(asked, enabled=asked.effort != "none")
        return replace(asked, enabled=self.thinks) if template.switches_thoughts else asked


def system_messages(request: ChatRequest) -> tuple[Message, ...]:
    """The messages before the first turn."""
    return tuple(takewhile(lambda message: message.role in ("system", "developer"), request.messages))


def callable_here(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that a local model may call; what only an endpoint has is left out."""
    return tuple(tool for tool in request.callable_tools if isinstance(tool, Tool))
