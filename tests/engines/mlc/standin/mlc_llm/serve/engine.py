"""AsyncMLCEngine as mlc_llm/serve/engine.py has it. What it says is decided by the request's seed."""

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..log import library_text, log
from .config import EngineConfig

DEVICES = ("auto", "cpu", "cuda", "rocm", "metal", "vulkan", "opencl")
WORDS = ("Paris", " is", " the", " capital", ".")
FAILS, CRASHES, EXHAUSTED, PREEMPTED, ENDLESS, HALF = 13, 14, 15, 16, 17, 18  # seeds


class BadRequestError(ValueError):
    pass


class TopLogProbs(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None


class LogProbsContent(TopLogProbs):
    top_logprobs: list[TopLogProbs] = []


class LogProbs(BaseModel):
    content: list[LogProbsContent]


class CompletionLogProbs(BaseModel):
    text_offset: list[int] | None
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    extra: dict[str, Any] | None = None


class CompletionChoice(BaseModel):
    finish_reason: str | None = None
    index: int = 0
    logprobs: CompletionLogProbs | None = None
    text: str


class CompletionResponse(BaseModel):
    id: str
    choices: list[CompletionChoice]
    object: str = "text_completion"
    usage: CompletionUsage | None = None


class ChatMessage(BaseModel):
    content: str | None = None
    role: str


class ChatChoice(BaseModel):
    finish_reason: str | None = None
    index: int = 0
    delta: ChatMessage
    logprobs: LogProbs | None = None


class ChatStreamResponse(BaseModel):
    id: str
    choices: list[ChatChoice]
    system_fingerprint: str = ""
    object: str = "chat.completion.chunk"
    usage: CompletionUsage | None = None


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
        config = json.loads((folder / "mlc-chat-config.json").read_text(encoding="utf-8"))
        assert isinstance(config["conv_template"], dict)
        assert (folder / "tensor-cache.json").is_file()
        if not Path(model_lib).is_file():
            raise FileNotFoundError(f"The `model_lib` you passed in is not a file: {model_lib}.\n")
        values = engine_config.check()
        log("open", model=model, device=device, mode=mode, model_lib=model_lib, engine_config=values)
        if os.environ.get("MLC_STANDIN_OPEN") == "fail":
            raise RuntimeError("Insufficient GPU memory: out of memory")
        # As the real one: the background thread keeps the process alive until `terminate`.
        self._over = threading.Event()
        threading.Thread(target=self._over.wait).start()
        if Path(model_lib).read_text(encoding="utf-8") != library_text():
            # As the real one: the error is raised in a background thread, and nobody tells the constructor.
            threading.Event().wait()
        self.limit = engine_config.max_single_sequence_length or 0
        self.aborted: set[str] = set()
        self.chat = Chat(self)
        self.completions = Completions(self)

    async def abort(self, request_id: str) -> None:
        assert type(request_id) is str
        self.aborted.add(request_id)
        log("abort", request_id=request_id)

    def terminate(self) -> None:
        log("terminate")
        if os.environ.get("MLC_STANDIN_TERMINATE") != "forget":
            self._over.set()


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
        assert facts["stream"] is True and facts["stream_options"] == {"include_usage": True}
        assert facts["request_id"] not in self.names, "request ids must differ"
        self.names.add(facts["request_id"])
        given = {name: value for name, value in facts.items() if value is not None}
        log("create", kind=type(self).__name__, arguments=given)

    async def words(self, facts: dict[str, Any], prompt_tokens: int) -> Any:
        """(word, finish reason) as they come; the usage last."""
        if prompt_tokens > self.engine.limit:
            raise BadRequestError(
                f"Request prompt has {prompt_tokens} tokens in total, larger than the model input length "
                f"limit {self.engine.limit}."
            )
        seed, most, said = facts["seed"], facts["max_tokens"] or 10**9, 0
        if seed == EXHAUSTED:
            raise RuntimeError("CUDA: out of memory")
        if seed == ENDLESS:
            while facts["request_id"] not in self.engine.aborted:
                yield "on ", None
                await asyncio.sleep(0.01)
        for word in WORDS[:most]:
            await asyncio.sleep(0)
            if said == 2 and seed == FAILS:
                raise RuntimeError("InternalError: a kernel failed")
            if said == 2 and seed == CRASHES:
                os._exit(7)
            if said == 2 and seed == PREEMPTED:
                yield "", "preempt"
                return
            said += 1
            yield word, None
        if seed == HALF:
            return
        yield "", "length" if most <= len(WORDS) else "stop"
        total = prompt_tokens + said
        yield None, CompletionUsage(prompt_tokens=prompt_tokens, completion_tokens=said, total_tokens=total)


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
        for number, message in enumerate(messages):
            if message["role"] == "system" and number:
                raise BadRequestError(f"System prompt at position {number} in the message list is invalid.")
            assert set(message) <= {"role", "content"} and isinstance(message["content"], str)
        return self._stream(facts, sum(len(message["content"]) for message in messages))

    async def _stream(self, facts: dict[str, Any], prompt_tokens: int) -> Any:
        async for word, other in self.words(facts, prompt_tokens):
            if word is None:
                yield ChatStreamResponse(id=facts["request_id"], choices=[], usage=other)
                continue
            held = None
            if facts["logprobs"] and word:
                top = [
                    TopLogProbs(token=word, logprob=-0.5, bytes=list(word.encode())),
                    TopLogProbs(token="?", logprob=-1.5, bytes=None),
                ][: facts["top_logprobs"]]
                entry = LogProbsContent(token=word, logprob=-0.5, bytes=list(word.encode()), top_logprobs=top)
                held = LogProbs(content=[entry])
            delta = ChatMessage(content=word, role="assistant")
            choice = ChatChoice(delta=delta, finish_reason=other, logprobs=held)
            yield ChatStreamResponse(id=facts["request_id"], choices=[choice])


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
        assert isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt)
        assert logprobs is None or 0 <= logprobs <= 5
        return self._stream(facts, len(prompt))

    async def _stream(self, facts: dict[str, Any], prompt_tokens: int) -> Any:
        async for word, other in self.words(facts, prompt_tokens):
            if word is None:
                yield CompletionResponse(id=facts["request_id"], choices=[], usage=other)
                continue
            held = None
            if facts["logprobs"] is not None and word:
                top = dict([(word, -0.5), ("?", -1.5)][: facts["logprobs"]])
                held = CompletionLogProbs(
                    text_offset=None, token_logprobs=[-0.5], tokens=[word], top_logprobs=[top]
                )
            choice = CompletionChoice(text=word, finish_reason=other, logprobs=held)
            yield CompletionResponse(id=facts["request_id"], choices=[choice])
