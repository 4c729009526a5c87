"""What is known of the model behind a name."""

from __future__ import annotations

from edge_router.chat.request import Need
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A name that may be asked for, and what is known of the model behind it. Sizes in bytes.

    `own`: the name is that of one model, neither another word for it nor a choice among several.
    `created`: since when it is here, in seconds since 1970. `reasons`: it thinks before it answers, or can;
    None where nobody knows yet. `size` is of its weights, `memory` what it takes where it is loaded,
    `on_gpu`: of a GPU; `form` is that of its files.
    `dimension`: of its vectors, 0 before it is known; None for a model that answers chats.
    """

    name: str
    own: bool = True
    context_window: int | None = None  # tokens
    serves: frozenset[Need] = frozenset()
    local: bool = False
    loaded: bool = False
    size: int | None = None
    memory: int | None = None
    form: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    quantization: str | None = None
    digest: str | None = None
    created: int | None = None
    reasons: bool | None = None
    dimension: int | None = None
    on_gpu: bool = False
