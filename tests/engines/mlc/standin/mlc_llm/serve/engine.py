"""AsyncMLCEngine as mlc_llm/serve/engine.py has it, over the thread of background.py."""

import asyncio
import json
import os
import threading
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..log import log
from ..protocol import openai_api_protocol as api
from ..protocol.error_protocol import BadRequestError
from ..protocol.generation_config import GenerationConfig
from ..protocol.mlc_chat_config import MLCChatConfig
from .background import Answer, Background, Output
from .config import EngineConfig
from .model import Words

DEVICES = ("auto", "cpu", "cuda", "rocm", "metal", "vulkan", "opencl")


@dataclass
class CallbackStreamOutput:
    """The last one has the usage, as JSON, and nothing else."""

    delta_text: str
    delta_logprob_json_strs: list[str] | None
    finish_reason: str | None
    request_final_usage_json_str: str | None


class Stream:
    """One request's; text of a character that is not whole yet comes with what completes it."""

    def __init__(self, words: Words, logprobs: bool) -> None:
        self.outputs: asyncio.Queue[CallbackStreamOutput] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._words, self._logprobs = words, logprobs
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def put(self, output: Output) -> None:
        """From the other thread."""
        if output.usage is not None:
            made = CallbackStreamOutput("", None, None, json.dumps(output.usage))
        else:
            data = b"".join(map(self._words.bytes_of, output.tokens))
            text = self._decoder.decode(data, final=output.finish is not None)
            told = output.logprobs if self._logprobs else None
            made = CallbackStreamOutput(text, told, output.finish, None)
        self._loop.call_soon_threadsafe(self.outputs.put_nowait, made)


class AsyncMLCEngine:
    def __init__(
        self,
        model: str,
        device: str = "auto",
        *,
        model_lib: str | None = None,
        mode: str = "local",
        engine_config: EngineConfig | None = None,
        enable_tracing: bool = False,
    ) -> None:
        assert type(model) is str and type(model_lib) is str
        assert device.partition(":")[0] in DEVICES
        assert mode in ("local", "interactive", "server")
        assert isinstance(engine_config, EngineConfig)
        folder = Path(model)
        text = (folder / "mlc-chat-config.json").read_text(encoding="utf-8")
        config = MLCChatConfig.model_validate_json(text)
        if not Path(model_lib).is_file():
            raise FileNotFoundError(f"The `model_lib` you passed in is not a file: {model_lib}.\n")
        log(
            "open",
            model=model,
            device=device,
            mode=mode,
            model_lib=model_lib,
            engine_config=engine_config.given(),
        )
        self._chat, self._words = config, Words(folder)
        self._streams: dict[str, Stream] = {}
        self._over, loaded = threading.Event(), threading.Event()
        engine_config.mode = mode
        self._background = Background(folder, Path(model_lib), config, engine_config, self._tell)
        self._background.loaded = loaded.set
        # Neither is a daemon: they keep the process alive until `terminate`.
        self._threads = [
            threading.Thread(target=self._background.run),
            threading.Thread(target=self._over.wait),
        ]
        for thread in self._threads:
            thread.start()
        if os.environ.get("MLC_STANDIN_OPEN") == "hang":
            loaded = threading.Event()
        loaded.wait()
        self.max_input_sequence_length = min(self._background.context, self._background.total)
        self.chat = Chat(self)
        self.completions = Completions(self)

    def _tell(self, request_id: str, output: Output) -> None:
        stream = self._streams.get(request_id)
        if stream is not None:
            stream.put(output)

    async def abort(self, request_id: str) -> None:
        """An aborted answer gets nothing more, not even an end."""
        assert type(request_id) is str
        log("abort", request_id=request_id)
        self._streams.pop(request_id, None)
        self._background.put("abort", request_id)

    def terminate(self) -> None:
        log("terminate")
        if os.environ.get("MLC_STANDIN_TERMINATE") != "forget":
            self._over.set()
        self._background.put("exit")
        for thread in self._threads:
            thread.join()

    async def _generate(
        self, prompt: list[int], generation_config: GenerationConfig, request_id: str
    ) -> AsyncGenerator[list[CallbackStreamOutput], Any]:
        """Sends an answer's pieces, and its usage last; what is None in the config is as the model's own."""
        assert isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt)
        assert request_id not in self._streams, "request ids must differ"
        given = generation_config.model_dump(exclude_none=True)
        log("generate", request_id=request_id, prompt=prompt, config=given)
        whole = generation_config.model_copy(update=self._defaults(generation_config))
        if (whole.temperature or 0) < 0 or not 0 <= (whole.top_p or 0) <= 1:
            raise RuntimeError("InternalError: sampling out of its range")
        stream = self._streams[request_id] = Stream(self._words, whole.logprobs)
        self._background.put("add", Answer(request_id, prompt, whole))
        while True:
            output = await stream.outputs.get()
            yield [output]
            if output.request_final_usage_json_str is not None:
                self._streams.pop(request_id, None)
                return

    def _defaults(self, config: GenerationConfig) -> dict[str, Any]:
        names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
        return {name: getattr(self._chat, name) for name in names if getattr(config, name) is None}

    def started(self, facts: dict[str, Any], prompt: list[int], logprobs: bool, top: int) -> Any:
        """The answer to a request of either interface, which adds where the model's turns end."""
        if len(prompt) > self.max_input_sequence_length:
            raise BadRequestError(
                f"Request prompt has {len(prompt)} tokens in total, larger than the model input length limit "
                f"{self.max_input_sequence_length}."
            )
        stops, ends = facts["stop"] or [], self._chat.conv_template
        config = GenerationConfig(
            **{
                name: facts[name]
                for name in ("temperature", "top_p", "seed", "logit_bias", "response_format")
            },
            frequency_penalty=facts["frequency_penalty"],
            presence_penalty=facts["presence_penalty"],
            max_tokens=-1 if facts["max_tokens"] is None else facts["max_tokens"],
            logprobs=logprobs,
            top_logprobs=top,
            stop_strs=[*([stops] if isinstance(stops, str) else stops), *ends.stop_str],
            stop_token_ids=ends.stop_token_ids,
        )
        return self._generate(prompt, config, facts["request_id"])

    def encoded(self, messages: list[dict[str, Any]]) -> list[int]:
        """By the conversation's template: one that is plain enough for a stand-in."""
        for number, message in enumerate(messages):
            if message["role"] == "system" and number:
                raise BadRequestError(f"System prompt at position {number} in the message list is invalid.")
            assert set(message) <= {"role", "content"} and isinstance(message["content"], str)
        return self._words.encode(
            "".join(f"{message['role']}: {message['content']}\n" for message in messages)
        )


class Chat:
    def __init__(self, engine: AsyncMLCEngine) -> None:
        self.completions = ChatCompletions(engine)


class Common:
    def __init__(self, engine: AsyncMLCEngine) -> None:
        self.engine, self.names = engine, set[str]()

    def check(self, facts: dict[str, Any]) -> None:
        """Types as pydantic would hold them; what it would convert, such as "1" to 1, counts as wrong here."""
        kinds: dict[str, Any] = {
            "model": str,
            "max_tokens": int,
            "temperature": (int, float),
            "top_p": (int, float),
            "seed": int,
            "frequency_penalty": (int, float),
            "presence_penalty": (int, float),
            "stop": (str, list),
            "logit_bias": dict,
            "request_id": str,
        }
        for name, kind in kinds.items():
            value = facts[name]
            assert value is None or isinstance(value, kind), f"{name} is {value!r}"
        assert facts["seed"] is None or 0 <= facts["seed"] < 2**31
        bias = facts["logit_bias"] or {}
        assert all(type(token) is int and abs(value) <= 100 for token, value in bias.items())
        assert all(abs(facts[f"{kind}_penalty"] or 0) <= 2 for kind in ("frequency", "presence"))
        assert facts["stream"] is True and facts["stream_options"] == {"include_usage": True}
        assert set(facts["extra_body"] or {}) <= {"debug_config"}
        assert facts["request_id"] not in self.names, "request ids must differ"
        self.names.add(facts["request_id"])
        given = {name: value for name, value in facts.items() if value is not None}
        log("create", kind=type(self).__name__, arguments=given)


class ChatCompletions(Common):
    async def create(
        self,
        *,
        messages: list[dict[str, Any]],
        model: str | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        logprobs: bool = False,
        top_logprobs: int = 0,
        logit_bias: dict[int, float] | None = None,
        max_tokens: int | None = None,
        n: int = 1,
        seed: int | None = None,
        stop: str | list[str] | None = None,
        stream: bool = False,
        stream_options: dict[str, Any] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        tools: list[dict[str, Any]] | None = None,
        tool_choice: str | dict[str, Any] | None = None,
        user: str | None = None,
        response_format: dict[str, Any] | None = None,
        request_id: str | None = None,
        extra_body: dict[str, Any] | None = None,
    ) -> Any:
        facts = {name: value for name, value in locals().items() if name != "self"}
        self.check(facts)
        assert type(logprobs) is bool and 0 <= top_logprobs <= 20
        return self._stream(facts, self.engine.encoded(messages))

    async def _stream(self, facts: dict[str, Any], prompt: list[int]) -> Any:
        name = facts["request_id"]
        async for (output,) in self.engine.started(facts, prompt, facts["logprobs"], facts["top_logprobs"]):
            if output.request_final_usage_json_str is not None:
                usage = api.CompletionUsage.model_validate_json(output.request_final_usage_json_str)
                yield api.ChatCompletionStreamResponse(id=name, choices=[], usage=usage)
            elif output.delta_text or output.finish_reason:
                told = map(api.LogProbsContent.model_validate_json, output.delta_logprob_json_strs or ())
                choice = api.ChatCompletionStreamResponseChoice(
                    delta=api.ChatCompletionMessage(content=output.delta_text, role="assistant"),
                    finish_reason=output.finish_reason,
                    logprobs=api.LogProbs(content=list(told)) if facts["logprobs"] else None,
                )
                yield api.ChatCompletionStreamResponse(id=name, choices=[choice])


class Completions(Common):
    async def create(
        self,
        *,
        prompt: str | list[int],
        model: str | None = None,
        best_of: int = 1,
        echo: bool = False,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        logprobs: int | None = None,
        logit_bias: dict[int, float] | None = None,
        max_tokens: int | None = None,
        n: int = 1,
        seed: int | None = None,
        stop: str | list[str] | None = None,
        stream: bool = False,
        stream_options: dict[str, Any] | None = None,
        suffix: str | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        user: str | None = None,
        response_format: dict[str, Any] | None = None,
        request_id: str | None = None,
        extra_body: dict[str, Any] | None = None,
    ) -> Any:
        facts = {name: value for name, value in locals().items() if name != "self"}
        self.check(facts)
        assert isinstance(prompt, list)
        assert logprobs is None or 0 <= logprobs <= 5
        return self._stream(facts, prompt)

    async def _stream(self, facts: dict[str, Any], prompt: list[int]) -> Any:
        """What comes without a text, such as the first half of a character, is left out, log probability and all."""
        name, top = facts["request_id"], facts["logprobs"]
        async for (output,) in self.engine.started(facts, prompt, top is not None, top or 0):
            if output.request_final_usage_json_str is not None:
                usage = api.CompletionUsage.model_validate_json(output.request_final_usage_json_str)
                yield api.CompletionResponse(id=name, choices=[], usage=usage)
            elif output.delta_text or output.finish_reason:
                choice = api.CompletionResponseChoice(
                    text=output.delta_text,
                    finish_reason=output.finish_reason,
                    logprobs=None if top is None else _by_name(output.delta_logprob_json_strs or []),
                )
                yield api.CompletionResponse(id=name, choices=[choice])


def _by_name(told: list[str]) -> api.CompletionLogProbs:
    """Tokens that have one name become one."""
    found = [api.LogProbsContent.model_validate_json(text) for text in told]
    return api.CompletionLogProbs(
        text_offset=None,
        token_logprobs=[entry.logprob for entry in found],
        tokens=[entry.token for entry in found],
        top_logprobs=[{top.token: top.logprob for top in entry.top_logprobs} for entry in found],
    )
