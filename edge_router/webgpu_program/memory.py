"""What a program takes on the device, to the byte, before anything is allocated."""

from __future__ import annotations

from edge_router.records import dataclass
from edge_router.webgpu_program.format import (
    FEW_ROWS,
    PAGE_SIZE,
    PICKED_WORDS,
    ROW_WORDS,
    Buffer,
    Control,
    KeyValues,
    Logits,
    Picked,
    Program,
    Rotary,
    Weight,
)

UNIFORM_SLOT = 256  # bytes; at which offsets every device can bind uniforms
WORD = 4  # bytes
_LEAST = 16  # bytes; of a buffer


@dataclass(frozen=True, slots=True)
class Windows:
    """In tokens; `sequences` decode together at most."""

    context: int
    chunk: int
    sequences: int = 1

    @property
    def pages_per_sequence(self) -> int:
        """Of a whole one."""
        return -(-self.context // PAGE_SIZE)

    @property
    def rows(self) -> int:
        """Of any call, at most."""
        return max(self.chunk, self.sequences)

    def variables(self, function: str) -> dict[str, int]:
        """The largest values that a call of `function` can have."""
        rows = {
            "decode": 1,
            "decode_far": 1,
            "batch": self.sequences,
            "best": self.sequences,
            "likeliest": self.sequences,
            "prefill_few": min(FEW_ROWS, self.chunk),
        }
        return {"n": rows.get(function, self.chunk)}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on the device. The last three are buffers of the executor's own."""

    weights: int
    key_values: int
    scratch: int
    tables: int  # rotary and control
    output: int  # logits, and what is chosen from them
    uniforms: int
    readback: int
    spare: int  # through which pages of the KV cache are copied

    @property
    def total(self) -> int:
        own = self.uniforms + self.readback + self.spare
        return self.weights + self.key_values + self.scratch + self.tables + self.output + own


def footprint(program: Program, windows: Windows) -> Footprint:
    pages = pages_per_sequence(program.window, windows) * windows.sequences
    sizes = {name: buffer_bytes(buffer, windows, pages) for name, buffer in program.buffers.items()}

    def sum_of(*kinds: type[Buffer]) -> int:
        return sum(sizes[name] for name, buffer in program.buffers.items() if isinstance(buffer, kinds))

    return Footprint(
        weights=sum_of(Weight),
        key_values=sum_of(KeyValues),
        scratch=sum(scratch_sizes(program, windows)),
        tables=sum_of(Rotary, Control),
        output=sum_of(Logits, Picked),
        uniforms=sum(uniform_bytes(program, name) for name in program.functions),
        readback=readback_bytes(program, windows),
        spare=spare_bytes(program),
    )


def pages_per_sequence(window: int, windows: Windows) -> int:
    """That one may hold at a time. With a window: what a chunk's first token looks back at, and the chunk.

    Both may begin and end within a page, and so may the sinks.
    """
    whole = windows.pages_per_sequence
    return whole if not window else min(whole, -(-(window + windows.chunk) // PAGE_SIZE) + 2)


def buffer_bytes(buffer: Buffer, windows: Windows, pages: int) -> int:
    """`pages` of the KV cache."""
    match buffer:
        case Weight():
            return padded(buffer.bytes)
        case KeyValues():
            return padded(buffer.page_bytes * pages)
        case Rotary():
            cosine_and_sine = 2
            return padded(windows.context * cosine_and_sine * len(buffer.frequencies) * WORD)
        case Control():
            tables = windows.sequences * windows.pages_per_sequence
            return padded((windows.rows * ROW_WORDS + tables) * WORD)
        case Logits():
            return padded(windows.sequences * buffer.row_bytes)
        case Picked():
            return padded(windows.sequences * PICKED_WORDS * WORD)


def scratch_sizes(program: Program, windows: Windows) -> list[int]:
    """Of the buffers that all functions share, the largest first; each function uses the first ones."""
    sizes: list[int] = []
    for name in program.functions:
        for index, size in enumerate(sorted(function_scratch(program, name, windows).values(), reverse=True)):
            if index == len(sizes):
                sizes.append(size)
            sizes[index] = max(sizes[index], size)
    return sizes


def function_scratch(program: Program, function: str, windows: Windows) -> dict[str, int]:
    """Bytes of each scratch buffer of one function."""
    variables = windows.variables(function)
    scratch = program.functions[function].scratch
    return {name: padded(size(variables)) for name, size in scratch.items()}


def uniform_bytes(program: Program, function: str) -> int:
    """A slot for each different set of numbers that its launches are given."""
    sets = {launch.scalars for launch in program.functions[function].launches if launch.scalars}
    return UNIFORM_SLOT * len(sets)


def readback_bytes(program: Program, windows: Windows) -> int:
    """Through which logits come back to the host, and what is chosen from them."""
    return sum(padded(windows.sequences * words * WORD) for words in (program.vocab_size, PICKED_WORDS))


def spare_bytes(program: Program) -> int:
    pages = [item.page_bytes for item in program.buffers.values() if isinstance(item, KeyValues)]
    return padded(max(pages, default=0))


def padded(size: int) -> int:
    """Buffers are copied in whole words."""
    return max(_LEAST, -(-size // WORD) * WORD)
