from typing import Any

from pydantic import BaseModel


class Conversation(BaseModel):
    roles: dict[str, str]
    seps: list[str]
    stop_str: list[str] = []
    stop_token_ids: list[int] = []


class MLCChatConfig(BaseModel):
    """A `conv_template` that is a name, as old directories have it, is a ValidationError at once."""

    model_config = {"protected_namespaces": ()}

    model_type: str
    quantization: str
    vocab_size: int
    context_window_size: int
    prefill_chunk_size: int
    conv_template: Conversation
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    tokenizer_files: list[str] = []
    embedding_metadata: dict[str, Any] | None = None
