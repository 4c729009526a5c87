from typing import Any

from pydantic import BaseModel

from .openai_api_protocol import RequestResponseFormat


class GenerationConfig(BaseModel):
    """None is as the model's own config has it; -1 of `max_tokens` is no limit."""

    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    logit_bias: dict[int, float] | None = None
    max_tokens: int = -1
    seed: int | None = None
    stop_strs: list[str] | None = None
    stop_token_ids: list[int] | None = None
    response_format: RequestResponseFormat | None = None
    debug_config: dict[str, Any] | None = None
