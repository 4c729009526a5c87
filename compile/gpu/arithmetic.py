"""Functions of float32 numbers, by the GPU's own instructions where these are exact enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

from edge_router.compile.gpu.threads import f32, register
from edge_router.compile.kernels.ir import Expr, cast
from edge_router.compile.kernels.vectors import LOG2_E

_LARGEST_HALF = 65504.0
# 2 pi in three parts, of which the first two leave room for a product with 16 bits
_TURN = (6.28125, 0.0019340515136718750, 1.2556659146e-06)


def to_float(value: Expr) -> Expr:
    return value if str(value.ty.dtype).startswith("float32") else cast(value, "float32")


def to(value: Expr, dtype: str) -> Expr:
    """From float32; what float16 cannot hold becomes the largest that it can."""
    if dtype == "float32":
        return value
    lanes = int(value.ty.dtype.lanes)
    bound = tirx.const(_LARGEST_HALF, "float32")
    most = tirx.Broadcast(bound, lanes) if lanes > 1 else bound
    return cast(tirx.max(tirx.min(value, most), -most), dtype)


def silu(x: Expr) -> Expr:
    return x / (f32(1.0) + tirx.exp2(x * f32(-LOG2_E)))


def gelu_tanh(x: Expr) -> Expr:
    """x * (1 + tanh(z)) / 2 = x * sigmoid(2z), z = sqrt(2/pi) * (x + 0.044715 x^3): GELU's approximation."""
    z = x * f32(2 * math.sqrt(2 / math.pi)) * (f32(1.0) + f32(0.044715) * x * x)
    return x / (f32(1.0) + tirx.exp2(z * f32(-LOG2_E)))


def capped(x: Expr, cap: float) -> Expr:
    """cap * tanh(x / cap); powers beyond what a float32 holds are infinite, which is right here."""
    powers = tirx.exp2(x * f32(2 * LOG2_E / cap))
    return f32(cap) * (f32(1.0) - f32(2.0) / (powers + f32(1.0)))


def sine_cosine(angle: Expr) -> tuple[Expr, Expr]:
    """Of radians up to 1e5: the fast instructions are good to 1e-6 within half a turn, and bad beyond."""
    turns = register(tirx.floor(angle * f32(1 / (2 * math.pi)) + f32(0.5)))
    rest = angle
    for part in _TURN:
        rest = register(rest - turns * f32(part))
    return register(tirx.sin(rest)), register(tirx.cos(rest))


def choose(values: Sequence[float], i: Expr) -> Expr:
    """values[i], by halving: kernels have no tables."""
    if len(values) == 1:
        return f32(float(values[0]))
    half = len(values) // 2
    return tirx.Select(i < half, choose(values[:half], i), choose(values[half:], i - half))
