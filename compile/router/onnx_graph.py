"""Building an ONNX graph node by node; weights as float32, or as int8 with one scale per output channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

Precision = Literal["int8", "float32"]

# Weights use 7 of their 8 bits: x86 without VNNI adds two products of 8 bits in 16, where full ones overflow.
_LARGEST = 63


class Graph:
    """Nodes and constants under construction. Every method returns the name of its result."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._count = 0

    def constant(self, value: np.ndarray | np.float32, name: str | None = None) -> str:
        from onnx import numpy_helper

        name = name or self._name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int | str = 1, **attributes: object) -> Any:
        """`outputs`: how many, or the name of the only one."""
        from onnx import helper

        names = [outputs] if isinstance(outputs, str) else [self._name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if len(names) == 1 else names

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """`x @ weight.T + bias`; weight [out, in]."""
        if self.precision == "float32":
            product = self.node("MatMul", x, self.constant(weight.T.astype(np.float32)))
            return str(self.node("Add", product, self.constant(bias.astype(np.float32))))
        # The form that onnxruntime fuses into one kernel (DynamicQuantizeMatMul).
        values, scale = quantize_rows(weight)
        quantized, x_scale, x_zero = self.node("DynamicQuantizeLinear", x, outputs=3)
        zeros = self.constant(np.zeros(len(weight), np.int8))
        product = self.node("MatMulInteger", quantized, self.constant(values.T), x_zero, zeros)
        product = self.node("Cast", product, to=1)
        product = self.node("Mul", product, self.node("Mul", x_scale, self.constant(scale)))
        return str(self.node("Add", product, self.constant(bias.astype(np.float32))))

    def rows(self, table: np.ndarray, indices: str) -> str:
        """table[indices] for a float table, kept as int8 with one scale per row where asked."""
        if self.precision == "float32":
            return str(self.node("Gather", self.constant(table.astype(np.float32)), indices))
        values, scale = quantize_rows(table, largest=127)
        taken = self.node("Cast", self.node("Gather", self.constant(values), indices), to=1)
        return str(self.node("Mul", taken, self.node("Gather", self.constant(scale[:, None]), indices)))

    def normalise(self, x: str, arrays: Mapping[str, np.ndarray], name: str, epsilon: float) -> str:
        weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
        constants = self.constant(weight.astype(np.float32)), self.constant(bias.astype(np.float32))
        return str(self.node("LayerNormalization", x, *constants, axis=-1, epsilon=epsilon))

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def quantize_rows(weight: np.ndarray, largest: int = _LARGEST) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 with one float32 scale per row: weight ~ values * scale[:, None]."""
    scale = np.maximum(np.abs(weight).max(axis=1), 1e-12).astype(np.float32) / np.float32(largest)
    values = np.clip(np.rint(weight / scale[:, None]), -largest, largest).astype(np.int8)
    return values, scale
