"""Blocks of threads, what they share and how they wait for one another: what GPU kernels add to the language.

Threads of a block are numbered along one axis; 32 with consecutive numbers form a warp, on Apple's GPUs too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any

from tvm import tirx
from tvm.tirx import op
from tvm.tirx.script import builder as T

from edge_router.compile.kernels.ir import Buffer, Cell, Expr, Shape, const, serial, when

WARP = 32
MANY = 256  # threads of a block where nothing speaks for another number


@contextmanager
def launch(blocks: Expr | tuple[Expr, Expr], threads: int) -> Iterator[tuple[Any, ...]]:
    """A kernel on the GPU: `with launch((x, y), 128) as (i, j, thread)`."""
    extents = blocks if isinstance(blocks, tuple) else (blocks,)
    numbers = []
    with ExitStack() as stack:
        for axis, extent in zip("xy", extents, strict=False):
            numbers.append(stack.enter_context(T.thread_binding(extent, f"blockIdx.{axis}")))
        numbers.append(stack.enter_context(T.thread_binding(threads, "threadIdx.x")))
        yield tuple(numbers)


@contextmanager
def each(count: Expr, threads: int = MANY) -> Iterator[Expr]:
    """A thread for each number below `count`, which is an int32."""
    with launch(ceil_div(count, threads), threads) as (block, thread):
        i = register(block * threads + thread)
        with when(i < count):
            yield i


def ceil_div(a: Expr, b: int) -> Expr:
    return (a + (b - 1)) // b


@contextmanager
def every(count: int, thread: Expr, threads: int) -> Iterator[Expr]:
    """The threads of a block share the numbers below `count`: a loop over those of this one."""
    with serial(-(-count // threads)) as step:
        i = register(step * threads + thread)
        if count % threads:
            with when(i < count):
                yield i
        else:
            yield i


class Register(Cell):
    """A thread's own number, which changes."""

    def __init__(self, value: Expr) -> None:
        self._buffer = T.alloc_buffer((1,), value.ty.dtype, scope="local", layout=None)
        self.set(value)


def register(value: Expr) -> Expr:
    """Compute once, use often: `kernels.ir.bind` for a thread."""
    return Register(value).value


def registers(count: int, dtype: str = "float32") -> Buffer:
    """A thread's own numbers; they stay registers as long as every index is known to the compiler."""
    return T.alloc_buffer((count,), dtype, scope="local", layout=None)


def shared(shape: Shape, dtype: str = "float32") -> Buffer:
    """Memory of a block."""
    return T.alloc_buffer(tuple(shape), dtype, scope="shared", layout=None)


def barrier() -> None:
    """What the block's threads wrote to shared memory is there for all; every thread must come here."""
    T.evaluate(op.tvm_storage_sync("shared"))


Combine = Callable[[Expr, Expr], Expr]


def over_lanes(value: Expr, combine: Combine, thread: Expr, width: int = WARP) -> Expr:
    """`combine` over each `width` consecutive threads, for all of them; the whole warp must be here."""
    found = Register(value)
    step = width // 2
    while step:
        found.set(combine(found.value, _of_lane(found.value, (thread % WARP) ^ step)))
        step //= 2
    return found.value


def _of_lane(value: Expr, lane: Expr) -> Expr:
    everyone = tirx.const(0xFFFFFFFF, "uint32")
    return tirx.call_intrin(value.ty.dtype, "tirx.tvm_warp_shuffle", everyone, value, lane, WARP, WARP)


def over_block(value: Expr, combine: Combine, thread: Expr, threads: int) -> Expr:
    """`combine` over all threads of a block, for all of them."""
    value = over_lanes(value, combine, thread)
    if threads == WARP:
        return value
    parts = shared((threads // WARP,), str(value.ty.dtype))
    with when(thread % WARP == 0):
        T.buffer_store(parts, value, [thread // WARP])
    barrier()
    found = register(reduce(combine, [parts[i] for i in range(threads // WARP)]))
    barrier()  # before anybody writes there again
    return found


def summed(a: Expr, b: Expr) -> Expr:
    return operator.add(a, b)


def f32(value: float) -> Expr:
    return const(value, "float32")
