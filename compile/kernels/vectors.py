"""Arithmetic on vectors that TVM leaves to the C library, or to one element at a time."""

from __future__ import annotations

import math
from functools import reduce
from operator import add

from tvm import tirx

from edge_router.compile.kernels.ir import Expr, bind, bits, cast, const, intrinsic, lanes_of, pick, splat
from edge_router.compile.kernels.isa import Dot, Isa

LOG2_E = 1.4426950408889634
MASKED = -5e4  # the score of a key that may not be seen; TVM's own attention kernels use the same

# 2**r - 1 = r * P(r) on [-0.5, 0.5], least largest error (Lawson's iteration): 9e-8 relative
_EXP2 = (
    0.6931470036506653,
    0.24022242426872253,
    0.05550733581185341,
    0.009671512991189957,
    0.001326472731307149,
)
_ROUNDER = 1.5 * 2.0**23  # adding it leaves a float's nearest integer in its lowest bits
_ROUNDER_BITS = 0x4B400000


def total(vector: Expr) -> Expr:
    """The sum of the elements, halving at each step (LLVM's own reduction adds one by one, in order)."""
    return _fold(vector, add)


def largest(vector: Expr) -> Expr:
    return _fold(vector, tirx.max)


def _fold(vector: Expr, combine: object) -> Expr:
    assert callable(combine)
    while (lanes := lanes_of(vector)) > 1:
        vector = bind(vector)
        half = lanes // 2
        vector = combine(pick([vector], range(half)), pick([vector], range(half, lanes)))
    return vector


def totals(vectors: list[Expr]) -> Expr:
    """The sums of as many vectors as each has lanes, as one vector, by adding while transposing."""
    lanes = lanes_of(vectors[0])
    assert len(vectors) == lanes
    step = 1
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        left = [i + (i // step % 2) * (lanes - step) for i in range(lanes)]
        right = [i + step for i in left]
        vectors = [bind(pick([a, b], left) + pick([a, b], right)) for a, b in pairs]
        step *= 2
    return vectors[0]


def transposed(vectors: list[Expr]) -> list[Expr]:
    """As many vectors as each has lanes, rows for columns."""
    lanes = lanes_of(vectors[0])
    assert len(vectors) == lanes
    step = 1
    while step < lanes:
        left = [i + (i // step % 2) * (lanes - step) for i in range(lanes)]
        right = [i + step for i in left]
        swapped = list(vectors)
        for i in range(lanes):
            if not i // step % 2:
                a, b = vectors[i], vectors[i + step]
                swapped[i], swapped[i + step] = bind(pick([a, b], left)), bind(pick([a, b], right))
        vectors, step = swapped, step * 2
    return vectors


def to_nearest(vector: Expr) -> Expr:
    """Float32 to the nearest int32, for magnitudes up to 2**22."""
    lanes = lanes_of(vector)
    moved = bits(vector + const(_ROUNDER, "float32", lanes), _named("int32", lanes))
    return moved - const(_ROUNDER_BITS, "int32", lanes)


def exp2(x: Expr) -> Expr:
    """2**x in float32, to 1e-7; what is below 2**-126 becomes that, what is above 2**126 too."""
    lanes = lanes_of(x)
    x = bind(tirx.min(tirx.max(x, const(-126.0, "float32", lanes)), const(126.0, "float32", lanes)))
    whole = bind(to_nearest(x))
    r = bind(x - cast(whole, "float32"))
    power = reduce(
        lambda p, c: p * r + const(c, "float32", lanes), _EXP2[-2::-1], const(_EXP2[-1], "float32", lanes)
    )
    fraction = power * r + const(1.0, "float32", lanes)
    integer = _named("int32", lanes)
    scaled = bits(fraction, integer) + (whole << const(23, "int32", lanes))
    return bits(scaled, _named("float32", lanes))


def log2(x: Expr) -> Expr:
    """The logarithm of a positive normal float32, to 1e-6."""
    lanes = lanes_of(x)
    integer = _named("int32", lanes)
    word = bind(bits(x, integer))
    # the power of two that leaves a fraction within 1/sqrt(2)..sqrt(2), where the series is short
    exponent = bind((word - const(0x3F3504F3, "int32", lanes)) >> const(23, "int32", lanes))
    fraction = bits(word - (exponent << const(23, "int32", lanes)), _named("float32", lanes))
    one = const(1.0, "float32", lanes)
    # log2(f) = 2/ln(2) * atanh(z), z = (f - 1) / (f + 1)
    z = bind((fraction - one) / (fraction + one))
    square = bind(z * z)
    series = [const(2 * LOG2_E / n, "float32", lanes) for n in (7, 5, 3, 1)]
    return cast(exponent, "float32") + z * reduce(lambda p, c: p * square + c, series)


def sine_cosine(angle: Expr) -> tuple[Expr, Expr]:
    """Of radians up to 1e5, to 1e-6: the polynomials are Cephes' (sinf.c), on an eighth of a turn."""
    lanes = lanes_of(angle)

    def c(number: float) -> Expr:
        return const(number, "float32", lanes)

    quarter = bind(to_nearest(angle * c(2 / math.pi)))
    turns = bind(cast(quarter, "float32"))
    # pi/2 in three parts, the first ones so short that their products are exact
    rest = bind(
        ((angle - turns * c(1.5703125)) - turns * c(4.837512969970703125e-4)) - turns * c(7.54978995489188e-8)
    )
    z = bind(rest * rest)
    sine = bind(((c(-1.9515295891e-4) * z + c(8.3321608736e-3)) * z - c(1.6666654611e-1)) * z * rest + rest)
    series = (c(2.443315711809948e-5) * z - c(1.388731625493765e-3)) * z + c(4.166664568298827e-2)
    cosine = bind(series * z * z - c(0.5) * z + c(1.0))
    one = const(1, "int32", lanes)
    odd = (quarter & one) > const(0, "int32", lanes)
    half_turn = (quarter & const(2, "int32", lanes)) << const(30, "int32", lanes)
    half_turn_on = ((quarter + one) & const(2, "int32", lanes)) << const(30, "int32", lanes)
    return _flip(tirx.Select(odd, cosine, sine), half_turn), _flip(
        tirx.Select(odd, sine, cosine), half_turn_on
    )


def _flip(value: Expr, sign: Expr) -> Expr:
    """Change the sign where the highest bit of `sign` is set."""
    lanes = lanes_of(value)
    return bits(bits(value, _named("int32", lanes)) ^ sign, _named("float32", lanes))


def silu(x: Expr) -> Expr:
    """x * sigmoid(x)."""
    lanes = lanes_of(x)
    return x / (const(1.0, "float32", lanes) + exp2(x * const(-LOG2_E, "float32", lanes)))


def gelu_tanh(x: Expr) -> Expr:
    """x * (1 + tanh(z)) / 2 = x * sigmoid(2z), z = sqrt(2/pi) * (x + 0.044715 x^3): GELU's approximation."""
    lanes = lanes_of(x)
    double = const(2 * math.sqrt(2 / math.pi), "float32", lanes)
    z = x * double * (const(1.0, "float32", lanes) + const(0.044715, "float32", lanes) * x * x)
    return x / (const(1.0, "float32", lanes) + exp2(z * const(-LOG2_E, "float32", lanes)))


def capped(x: Expr, cap: float) -> Expr:
    """cap * tanh(x / cap)."""
    lanes = lanes_of(x)
    one = const(1.0, "float32", lanes)
    powers = exp2(x * const(2 * LOG2_E / cap, "float32", lanes))
    return const(cap, "float32", lanes) * (one - const(2.0, "float32", lanes) / (powers + one))


def dot(isa: Isa, sums: Expr, a: Expr, b: Expr) -> Expr:
    """int32 sums + the products of the integers in each lane of `a` and `b`: of four bytes, `a`'s unsigned,
    or of two sixteen-bit ones."""
    lanes = lanes_of(sums)
    if isa.dot is not Dot.VNNI:
        return sums + (
            word_pairs(byte_pairs(a, b), const(1, "int16", 2 * lanes)) if isa.bytes else word_pairs(a, b)
        )
    name, part = ("vpdpbusd", f"int8x{4 * lanes}") if isa.bytes else ("vpdpwssd", f"int16x{2 * lanes}")
    return intrinsic(f"int32x{lanes}", f"x86.avx512.{name}.{32 * lanes}", sums, bits(a, part), bits(b, part))


def byte_pairs(a: Expr, b: Expr) -> Expr:
    """int16: products of `a`'s unsigned and `b`'s signed bytes, added in pairs. Bits of int32 lanes come in."""
    lanes = lanes_of(a)
    names = {4: "x86.ssse3.pmadd.ub.sw.128", 8: "x86.avx2.pmadd.ub.sw", 16: "x86.avx512.pmaddubs.w.512"}
    a, b = (bits(v, f"int8x{4 * lanes}") for v in (a, b))
    return intrinsic(f"int16x{2 * lanes}", names[lanes], a, b)


def word_pairs(a: Expr, b: Expr) -> Expr:
    """int32: products of sixteen-bit integers, added in pairs."""
    lanes = lanes_of(a) * a.ty.dtype.bits // 32
    names = {4: "x86.sse2.pmadd.wd", 8: "x86.avx2.pmadd.wd", 16: "x86.avx512.pmaddw.d.512"}
    a, b = (v if v.ty.dtype.bits == 16 else bits(v, f"int16x{2 * lanes}") for v in (a, b))
    return intrinsic(f"int32x{lanes}", names[lanes], a, b)


def to_float(isa: Isa, value: Expr) -> Expr:
    """Float16 (or float32, or bytes) to float32; by integer arithmetic where the hardware has no such instruction.

    Without it LLVM would call a function of the C compiler's own library, which need not be there.
    """
    if value.ty.dtype.bits != 16 or isa.half:
        return cast(value, "float32")
    lanes = lanes_of(value)
    word = bind(cast(bits(value, _named("uint16", lanes)), "uint32"))
    magnitude = (word & const(0x7FFF, "uint32", lanes)) << const(13, "uint32", lanes)
    scaled = bits(magnitude, _named("float32", lanes)) * const(2.0**112, "float32", lanes)
    sign = (word & const(0x8000, "uint32", lanes)) << const(16, "uint32", lanes)
    return bits(bits(scaled, _named("uint32", lanes)) | sign, _named("float32", lanes))


def from_float(isa: Isa, value: Expr, dtype: str) -> Expr:
    """Float32 to `dtype`, float16 or float32, to nearest, ties to even; too large becomes infinity."""
    if dtype == "float32" or isa.half:
        return cast(value, dtype)
    lanes = lanes_of(value)

    def c(number: int) -> Expr:
        return const(number, "uint32", lanes)

    word = bind(bits(value, _named("uint32", lanes)))
    size = bind(word & c(0x7FFFFFFF))
    tiny = bits(size, _named("float32", lanes)) + const(0.5, "float32", lanes)  # lines up the last bit
    small = bits(tiny, _named("uint32", lanes)) - c(0x3F000000)
    odd = (size >> c(13)) & c(1)
    normal = (size - c(0x38000000) + c(0xFFF) + odd) >> c(13)
    finite = tirx.Select(size < c(0x38800000), small, normal)
    half = tirx.Select(size >= c(0x47800000), c(0x7C00), finite) | ((word >> c(16)) & c(0x8000))
    return bits(cast(half, "uint16"), _named("float16", lanes))


def _named(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def spread(values: Expr, times: int) -> Expr:
    """Each element `times` times in a row."""
    if lanes_of(values) == 1:
        return splat(values, times)
    return pick([values], [i // times for i in range(lanes_of(values) * times)])
