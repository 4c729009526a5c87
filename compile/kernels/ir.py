"""The small language the kernels are written in: a layer over TVM's IR builder.

A kernel is a Python function that runs once, at compile time. Python's loops and conditions are unrolled
into the code, `serial`, `parallel` and `when` become loops and branches of it. TVMScript was tried first:
it has no loop over a Python list (a vector's tail pieces), and parsing it took longer than compiling it.

Pitfall: on a CPU only buffers of fewer than 1,024 bytes lie on the stack, and only those become registers;
larger ones are taken from a heap pool at every entry. So each register is a `Cell` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

Expr = Any  # TVM carries no types
Buffer = Any
Shape = Sequence[Any]

_FEW_ROWS = 8  # as many as are computed as if each were alone


class Kernel:
    """One function under construction; `function` is the finished one.

    >>> with kernel("twice") as k:
    ...     size = k.size()
    ...     x, y = k.tensor("x", (size,)), k.tensor("y", (size,))
    ...     with serial(size) as i:
    ...         store(y, x[i] * 2.0, i)
    """

    def __init__(self) -> None:
        self.function: Any = None

    def size(self, bits: int = 64) -> Expr:
        """A dimension that is known only when the kernel is called."""
        return T.int64() if bits == 64 else T.int32()

    def tensor(
        self,
        name: str,
        shape: Shape,
        dtype: str = "float32",
        *,
        offset: Expr | None = None,
        align: int = -1,
    ) -> Buffer:
        """An argument; `offset` (a `size`) where its data may start in the middle of an allocation.

        `align` is in bytes, by default that of TVM's own tensors: numpy's are not for whole vectors.
        """
        handle = T.arg(name, T.handle())
        return T.match_buffer(handle, tuple(shape), dtype, elem_offset=offset, align=align, layout=None)

    def scalar(self, name: str, dtype: str) -> Expr:
        return T.arg(name, getattr(T, dtype)())


@contextmanager
def kernel(name: str, *, public: bool = False) -> Iterator[Kernel]:
    """`public` functions are called by name from outside; the others only by the model's code."""
    made = Kernel()
    with IRBuilder() as builder:
        with T.prim_func(private=not public, s_tir=True):
            T.func_name(name)
            attributes: dict[str, object] = {"tirx.is_scheduled": True, "tirx.noalias": True}
            T.func_attr(attributes | ({"global_symbol": name} if public else {}))
            yield made
        made.function = builder.get()


# ---- statements --------------------------------------------------------------------------------------------


def serial(count: Expr) -> Any:
    return T.serial(count)


def parallel(count: Expr) -> Any:
    """The iterations are shared out over TVM's threads in equal runs."""
    return T.parallel(count)


def share_out(rows: Expr, tasks: Expr, body: Callable[[Expr], None]) -> None:
    """`body` of each task, over the threads; for few rows in turn, for to wake the others takes longer.

    Only for what is little work for each row.
    """
    with branch(rows <= _FEW_ROWS) as (few, many):
        with few, serial(tasks) as task:
            body(task)
        with many, parallel(tasks) as task:
            body(task)


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    with T.If(condition), T.Then():
        yield


@contextmanager
def branch(condition: Expr) -> Iterator[tuple[Any, Any]]:
    """`with branch(c) as (yes, no): with yes: ...; with no: ...`"""
    with T.If(condition):
        yield T.Then(), T.Else()


def scratch(shape: Shape, dtype: str = "float32") -> Buffer:
    """Memory for the rest of the enclosing loop body or function."""
    return T.alloc_buffer(tuple(shape), dtype, layout=None)


def store(buffer: Buffer, value: Expr, *index: Expr) -> None:
    """A vector goes to consecutive places from `index` on."""
    lanes = lanes_of(value)
    *outer, inner = index
    T.buffer_store(buffer, value, [*outer, run(inner, lanes) if lanes > 1 else inner])


def bind(value: Expr) -> Expr:
    """Compute once, use often.

    Not by TVM's own binding: its simplifier puts pure bindings back into every place where they are used,
    and a tree of additions in which each level uses the last one twice grows without end. What is read from
    memory it leaves alone, and LLVM makes a register of such memory.
    """
    return Cell(value).value


def settle(value: Expr) -> Expr:
    """As `bind`, for a number that is the size of a buffer: those must be variables."""
    return T.Bind(bind(value))


def prefetch(buffer: Buffer, *index: Expr) -> None:
    """Ask for the memory line of an element that will soon be read. It may lie beyond the end."""
    arguments = [tirx.const(number, "int32") for number in (0, 3, 1)]  # to read, soon and often, data
    address = tirx.address_of(buffer[index])
    T.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, *arguments))


class Cell:
    """A register: a value that changes, such as the sum of a loop."""

    def __init__(self, value: Expr) -> None:
        assert "bool" not in value.ty.dtype, "a vector of truth values is stored wrongly by TVM"
        self._buffer = T.alloc_buffer((1,), value.ty.dtype, layout=None)
        self.set(value)

    @property
    def value(self) -> Expr:
        return self._buffer[0]

    def set(self, value: Expr) -> None:
        T.buffer_store(self._buffer, value, [0])

    def add(self, value: Expr) -> None:
        self.set(self.value + value)


# ---- expressions -------------------------------------------------------------------------------------------


def lanes_of(value: Expr) -> int:
    return int(value.ty.dtype.lanes)


def const(value: float, dtype: str, lanes: int = 1) -> Expr:
    return splat(tirx.const(value, dtype), lanes)


def zero(lanes: int = 1) -> Expr:
    return const(0.0, "float32", lanes)


def splat(value: Expr, lanes: int) -> Expr:
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def run(start: Expr, lanes: int) -> Expr:
    """The index of `lanes` consecutive elements."""
    if isinstance(start, int):
        start = tirx.const(start, "int64")
    return tirx.Ramp(start, tirx.const(1, start.ty.dtype), lanes)


def load(buffer: Buffer, *index: Expr, lanes: int = 1) -> Expr:
    *outer, inner = index
    return buffer[(*outer, run(inner, lanes) if lanes > 1 else inner)]


def cast(value: Expr, dtype: str) -> Expr:
    """Element by element; `dtype` without lanes."""
    lanes = lanes_of(value)
    return tirx.Cast(dtype if lanes == 1 else f"{dtype}x{lanes}", value)


def bits(value: Expr, dtype: str) -> Expr:
    """The same bits read as `dtype` (with its lanes)."""
    return tirx.reinterpret(dtype, value)


def pick(vectors: Sequence[Expr], indices: Sequence[int]) -> Expr:
    """The elements at `indices` of the vectors laid end to end."""
    width = sum(lanes_of(v) for v in vectors)
    repeats = -(-len(indices) // width)  # TVM wants at least as many inputs as there are indices
    return tirx.Shuffle([*vectors] * repeats, [tirx.const(i, "int32") for i in indices])


def intrinsic(dtype: str, name: str, *arguments: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.{name}", *arguments)
