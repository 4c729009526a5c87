"""The weak model through MLC's engine, where the package mlc_llm is installed.

It lives in a process of its own (this file run as a program): a library that another TVM has built makes its
constructor hang for ever, and without `terminate` the process it is in never ends. Prompts are made here,
with the template and the tokenizer of the engine tvm, and go over as tokens: so both engines see the same
prompt, what a user pastes cannot become a control token, and roles that MLC's own chat formats refuse are no
trouble.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from edge_router.chat.events import Event, Finished, FinishReason, TextDelta, TokenLogprob, Usage
from edge_router.chat.request import ChatRequest, Need
from edge_router.config import Config
from edge_router.engines.base import Capabilities, Prompt
from edge_router.engines.local.loops import asked_by, by_texts
from edge_router.engines.process import Child, Line, mistake_of, serve
from edge_router.errors import (
    ConfigError,
    ContextOverflow,
    EdgeRouterError,
    GenerationFailed,
    InvalidRequest,
    OutOfMemory,
    UnsupportedRequest,
)
from edge_router.paths import Paths
from edge_router.types import Cancel, Progress

if TYPE_CHECKING:
    from edge_router.engines.local.sorting import Sorting
    from edge_router.prompts.directory import ModelDirectory

NAME = "mlc"
MOST_LOGPROBS = 5  # MLC's limit where a prompt is given as tokens

_FINISHED: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
_TOO_LONG = re.compile(r"prompt has (\d+) tokens in total, larger than the model input length limit (\d+)")


def load(config: Config, paths: Paths, progress: Progress) -> MlcEngine:
    """The configured weak model, fetched and built where it is missing and `weak.build` allows that.

    Raises `UnknownModel`, `WeightsError`, `ArtifactError`, `StorageError`, `EngineUnavailable` (without
    mlc_llm, or when loading takes longer than `mlc.load_timeout_s`), `OutOfMemory` before anything is loaded.
    """
    from edge_router.engines.local.settings import thinks
    from edge_router.engines.tvm import built
    from edge_router.prompts.directory import ModelDirectory

    compiled = built(config, paths, progress)
    windows = _windows(compiled.card.name, compiled.config, config, paths, progress)
    directory = ModelDirectory.read(compiled.model_dir, compiled.card.name)
    start = {
        "model": str(compiled.model_dir),
        "model_lib": str(compiled.library),
        "device": config.weak.device,
        "mode": config.mlc.mode or ("local" if _sequences(config) > 1 else "interactive"),
        "engine_config": _engine_config(config, windows),
    }
    with progress.step("load"):
        child = Child(NAME, "edge_router.engines.mlc", start, timeout_s=config.mlc.load_timeout_s)
    engine = MlcEngine(child, directory, model_id=compiled.card.name, context_window_size=windows.context)
    engine.weights_key = compiled.weights_key
    engine.ends_loops = config.weak.end_loops
    engine.prompts.thinks = thinks(compiled.card, config)
    return engine


@dataclass(frozen=True, slots=True)
class _Windows:
    """Tokens; `total` of all conversations. `utilization` is the budget's share of the device's memory."""

    context: int
    chunk: int
    total: int
    utilization: float | None = None


def _windows(
    model: str, chat: Mapping[str, Any], config: Config, paths: Paths, progress: Progress
) -> _Windows:
    """As compiled, or as long as fits into what is free."""
    from edge_router.vram import Wish
    from edge_router.vram.backends import PAGE
    from edge_router.vram.fitting import fit
    from edge_router.vram.room import room_for

    context, chunk = chat["context_window_size"], chat["prefill_chunk_size"]
    sequences = _sequences(config)
    try:
        room = room_for(config, paths)
    except ConfigError:
        if config.weak.vram_budget is not None:
            raise
        # What is free is not known here, and no budget was set.
        return _Windows(context, chunk, context * sequences)
    wish = Wish.of(chat, sequences)
    window = int(chat.get("sliding_window_size") or -1)
    numbers = {"model_type": chat["model_type"], **chat["model_config"], "sliding_window_size": window}
    place = replace(room.place, backend=replace(room.place.backend, forgets=window > 0))
    room = replace(room, place=place)
    fitted = fit(model, numbers, wish, room, held=0, router_loaded=True, engine=NAME)
    if fitted.note is not None:
        progress.note(fitted.note)
    settings = fitted.plan.settings
    # Rounded down: what MLC takes for its own must stay below the budget.
    share = math.floor(1000 * fitted.plan.budget / room.whole) / 1000 if room.whole else None
    kept = (settings.pages - 1) * PAGE if window > 0 else settings.context_window_size * sequences
    return _Windows(settings.context_window_size, settings.prefill_chunk_size, kept, share)


def _sequences(config: Config) -> int:
    """One, where nobody says how many: MLC's libraries are compiled for as many as are asked."""
    return config.weak.max_sequences or 1


def _engine_config(config: Config, windows: _Windows) -> dict[str, object]:
    """The fields of MLC's `EngineConfig` that are not left to MLC.

    In the mode "server" it is MLC that fills the GPU with as many tokens as `gpu_memory_utilization` allows.
    """
    sequences, asked = _sequences(config), config.mlc.gpu_memory_utilization
    values: dict[str, object] = {
        "max_num_sequence": sequences,
        "max_single_sequence_length": windows.context,
        "max_total_sequence_length": None if config.mlc.mode == "server" else windows.total,
        "prefill_chunk_size": windows.chunk,
        "sliding_window_size": config.weak.sliding_window_size,
        "attention_sink_size": config.weak.attention_sink_size,
        "gpu_memory_utilization": asked if asked is not None else windows.utilization,
    }
    return {name: value for name, value in values.items() if value is not None}


class MlcEngine:
    """See `engines.base.Engine` for what holds. Several answers at once are MLC's own business."""

    def __init__(
        self, child: Child, directory: ModelDirectory, *, model_id: str, context_window_size: int
    ) -> None:
        from edge_router.engines.local.prompt import Prompter

        self._child, self._directory = child, directory
        self._model_id, self._context_window_size = model_id, context_window_size
        self.prompts = Prompter(model_id, directory.tokenizer, directory.template, directory.answers)
        self.weights_key: str | None = None  # as of `LocalEngine`, like the next
        self.ends_loops = True

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(frozenset({Need.LOGPROBS}), self._context_window_size, weights=self.weights_key)

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
        with closing(self._child.call(self._call(prompt, sorting), cancel)) as lines:
            for line in lines:
                if "error" in line:
                    raise _ours(line)
                if line.get("usage"):
                    usage = Usage(line["usage"]["prompt_tokens"], line["usage"]["completion_tokens"])
                for choice in line.get("choices", ()):
                    delta = _delta(choice)
                    if delta.text or delta.logprobs:
                        yield from [delta] if sorting is None else sorting.push(delta.text, delta.logprobs)
                        if sorting is not None and sorting.stopped:
                            yield Finished("stop", _with_thoughts(usage, sorting))
                            return
                        if loops is not None and loops(delta.text):
                            yield from () if sorting is None else sorting.end()
                            yield Finished("length", _with_thoughts(usage, sorting), looped=True)
                            return
                    finish = _finish(choice) or finish
        if finish is None:
            raise GenerationFailed(NAME, "the answer has no end")
        yield from () if sorting is None else sorting.end()
        yield Finished(finish, _with_thoughts(usage, sorting))

    def close(self) -> None:
        self._child.close()

    def _guard(self, request: ChatRequest) -> Callable[[str], bool] | None:
        ends = self.ends_loops and request.raw_prompt is None
        return by_texts(asked_by(request.messages)) if ends else None

    def _sorting(self, prompt: Prompt) -> Sorting | None:
        from edge_router.engines.local.prompt import LocalPrompt

        return self.prompts.sorting(prompt) if isinstance(prompt, LocalPrompt) else None

    def _call(self, prepared: Prompt, sorting: Sorting | None) -> dict[str, object]:
        """Which of MLC's two interfaces, and its arguments; those left out are as the model's own config."""
        request, prompt = prepared.request, prepared.tokens
        sampling = request.sampling
        room = None if prompt is None else self._context_window_size - len(prompt)
        if prompt is not None and not prompt:
            raise InvalidRequest("messages", "the prompt is empty")
        if prompt is not None and room is not None and room < 1:
            raise ContextOverflow(len(prompt), self._context_window_size)
        plain = 0.0 if sampling.temperature == 0 else None  # whoever wants the likeliest token wants no other
        limits = [limit for limit in (request.max_tokens, room) if limit is not None]
        values: dict[str, object] = {
            "model": self._model_id,
            "max_tokens": min(limits, default=None),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": None if sampling.seed is None else sampling.seed % 2**31,  # a C int there
            "presence_penalty": plain if sampling.presence_penalty is None else sampling.presence_penalty,
            "frequency_penalty": plain if sampling.frequency_penalty is None else sampling.frequency_penalty,
            "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()} or None,
            "stop": list(request.stop) or None if sorting is None else None,
        }
        if prompt is None:
            values["messages"] = [{"role": turn.role, "content": turn.text} for turn in request.messages]
            values |= {"logprobs": True, "top_logprobs": request.top_logprobs} if request.logprobs else {}
        else:
            values["prompt"] = list(prompt)
            values["logprobs"] = request.top_logprobs if request.logprobs else None
            if request.logprobs and request.top_logprobs > MOST_LOGPROBS:
                raise UnsupportedRequest("top_logprobs", f"the engine mlc gives at most {MOST_LOGPROBS}")
        given = {name: value for name, value in values.items() if value is not None}
        return {"chat": prompt is None, "arguments": given}


def _with_thoughts(usage: Usage | None, sorting: Sorting | None) -> Usage | None:
    """A text that comes is a token."""
    if usage is None or sorting is None:
        return usage
    return replace(usage, reasoning_tokens=min(sorting.thoughts, usage.completion_tokens))


def _delta(choice: Mapping[str, Any]) -> TextDelta:
    """A choice of a chunk in OpenAI's form, of either interface."""
    text = choice["delta"].get("content") if "delta" in choice else choice["text"]
    return TextDelta(text or "", tuple(_logprobs(choice.get("logprobs") or {})))


def _logprobs(found: Mapping[str, Any]) -> Iterator[TokenLogprob]:
    """The interface for completions gives no bytes, so half a character is what its text makes of it."""
    for entry in found.get("content") or ():
        yield _named(entry, tuple(_named(other) for other in entry.get("top_logprobs") or ()))
    if "tokens" in found:
        for token, logprob, others in zip(
            found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
        ):
            top = tuple(TokenLogprob(name, value, name.encode()) for name, value in others.items())
            yield TokenLogprob(token, logprob, token.encode(), top)


def _named(entry: Mapping[str, Any], top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    data = entry.get("bytes")
    raw = entry["token"].encode() if data is None else bytes(data)
    return TokenLogprob(entry["token"], entry["logprob"], raw, top)


def _finish(choice: Mapping[str, Any]) -> FinishReason | None:
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    if reason not in _FINISHED:  # "error", or "preempt": there was no room to go on
        raise GenerationFailed(NAME, f"it ended the answer with {reason!r}")
    return _FINISHED[reason]


def _ours(line: Line) -> EdgeRouterError:
    """The one place where what MLC raises becomes ours."""
    if "mistake" in line:
        return mistake_of(NAME, line)
    message, kind = str(line["error"]), line.get("kind")
    too_long = _TOO_LONG.search(message)
    if too_long is not None:
        return ContextOverflow(int(too_long[1]), int(too_long[2]))
    if kind in ("BadRequestError", "ValidationError"):
        return InvalidRequest(None, message)
    if kind == "MemoryError" or "out of memory" in message.lower():
        return OutOfMemory(NAME, message)
    return GenerationFailed(NAME, message or str(kind))


# ---- in the child: all that mlc_llm is asked ---------------------------------------------------------------


def _open(start: Line) -> Any:
    from mlc_llm import AsyncMLCEngine
    from mlc_llm.serve import EngineConfig

    return AsyncMLCEngine(
        start["model"],
        start["device"],
        model_lib=start["model_lib"],
        mode=start["mode"],
        engine_config=EngineConfig(**start["engine_config"]),
    )


async def _answer(engine: Any, request_id: str, call: Line) -> AsyncGenerator[Line, None]:
    arguments = dict(call["arguments"])
    if "logit_bias" in arguments:  # JSON's names are strings
        arguments["logit_bias"] = {int(token): bias for token, bias in arguments["logit_bias"].items()}
    interface = engine.chat.completions if call["chat"] else engine.completions
    ended = False
    try:
        chunks = await interface.create(
            stream=True, stream_options={"include_usage": True}, request_id=request_id, **arguments
        )
        async for chunk in chunks:
            yield cast(Line, chunk.model_dump(mode="json"))
        ended = True
    finally:
        if not ended:
            await engine.abort(request_id)


def main() -> None:
    serve(_open, _answer, lambda engine: engine.terminate())


if __name__ == "__main__":
    main()
