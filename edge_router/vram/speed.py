"""How fast a model can decode at most: each token reads all its weights and all keys and values before it.

Kernels reach a share of the memory's bandwidth, so what is measured lies below.
"""

from __future__ import annotations

from edge_router.architectures.mixers import STATE_BYTES
from edge_router.architectures.quantization import quantization
from edge_router.vram.estimate import Settings, page_form, tensor_bytes
from edge_router.vram.shapes import ModelShape


def bytes_per_token(shape: ModelShape, settings: Settings) -> int:
    """Read to decode one token of a conversation that fills half of its context.

    Of an embedding table only one row is read, unless it serves as the last layer too; of experts those that
    the token takes.
    """
    form = quantization(settings.quantization)
    weights = sum(
        tensor.count * sum(tensor_bytes(tensor, form)) * tensor.read // tensor.experts
        for tensor in shape.tensors()
        if tensor.kind != "embedding" or shape.tied
    )
    kept = settings.context_window_size // 2
    keys_and_values, each = 2, page_form(shape, form, settings).token_bytes
    cache = keys_and_values * kept * shape.attention_layers * shape.kv_heads * each
    states = 2 * shape.state_numbers * STATE_BYTES  # read and written
    return weights + cache + states


def decode_tokens_per_s(shape: ModelShape, settings: Settings, bandwidth: float) -> float:
    """`bandwidth` in bytes per second."""
    return bandwidth / bytes_per_token(shape, settings)
