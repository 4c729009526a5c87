"""The functions beside the model itself that MLC's engine looks up in a library."""

from __future__ import annotations

from typing import Any

from tvm import relax, tirx

from edge_router.compile.kernels.base import Kernels


def attach(
    module: Any, kernels: Kernels, *, stored: str, tokens: int, width: int, vocabulary: int, active: int
) -> None:
    """Add them to `module`. `tokens` are those of the embedding buffer, a whole prefill chunk, and `stored`
    its type.

    Tokens from `active` on are padding of the vocabulary and get no probability.
    """
    for function in (kernels.add_bias(), kernels.penalize(), kernels.mask()):
        module[str(function.attrs["global_symbol"])] = function
    builder = relax.BlockBuilder()
    with builder.function("alloc_embedding_tensor", []):
        shape = relax.ShapeExpr([tokens, width])
        buffer = relax.op.builtin.alloc_tensor(shape, stored, runtime_device_index=0)
        builder.emit_func_output(builder.emit(buffer))
    batch = tirx.Var("batch_size", "int64")
    shaped = relax.TensorType([batch, 1, vocabulary], "float32")
    logits = relax.Var("logits", shaped)
    temperature = relax.Var("temperature", relax.TensorType([batch], "float32"))
    with builder.function("softmax_with_temperature", [logits, temperature]):
        with builder.dataflow():
            kernel = builder.add_func(kernels.softmax(vocabulary, active), "softmax")
            found = builder.emit_output(relax.call_tir(kernel, [logits, temperature], out_ty=shaped))
        builder.emit_func_output(found)
    module.update(builder.finalize())
