from typing import Any, Literal

from pydantic import BaseModel, Field


class RequestResponseFormat(BaseModel):
    type: Literal["text", "json_object"] = "text"
    json_schema: str | None = Field(default=None, alias="schema")


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


class CompletionResponseChoice(BaseModel):
    finish_reason: Literal["stop", "length", "preempt"] | None = None
    index: int = 0
    logprobs: CompletionLogProbs | None = None
    text: str


class CompletionResponse(BaseModel):
    id: str
    choices: list[CompletionResponseChoice]
    created: int = 0
    model: str | None = None
    object: str = "text_completion"
    usage: CompletionUsage | None = None


class ChatCompletionMessage(BaseModel):
    content: str | None = None
    role: Literal["system", "user", "assistant", "tool"]


class ChatCompletionStreamResponseChoice(BaseModel):
    finish_reason: Literal["stop", "length", "tool_calls", "error"] | None = None
    index: int = 0
    delta: ChatCompletionMessage
    logprobs: LogProbs | None = None


class ChatCompletionStreamResponse(BaseModel):
    id: str
    choices: list[ChatCompletionStreamResponseChoice]
    created: int = 0
    model: str | None = None
    system_fingerprint: str = ""
    object: str = "chat.completion.chunk"
    usage: CompletionUsage | None = None
