"""Bytes before anything is allocated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_router.webgpu_program import Program, Windows, footprint
from edge_router.webgpu_program.memory import function_scratch, padded, scratch_sizes, uniform_bytes


def test_windows() -> None:
    windows = Windows(context=100, chunk=32, sequences=3)
    assert (windows.pages_per_sequence, windows.rows) == (7, 32)
    assert windows.variables("decode") == windows.variables("decode_far") == {"n": 1}
    assert windows.variables("prefill") == windows.variables("prefill_half") == {"n": 32}
    assert windows.variables("prefill_few") == {"n": 16}
    assert windows.variables("batch") == windows.variables("best") == {"n": 3}
    assert Windows(100, 2, 5).rows == 5


def test_every_part(program: Program) -> None:
    found = footprint(program, Windows(context=100, chunk=32, sequences=3))
    assert found.weights == 92 + 16  # words are whole, and no buffer is smaller than four
    assert found.key_values == 21 * 64
    assert found.scratch == 32 * 32 + 32 * 12
    assert found.tables == 100 * 2 * 3 * 4 + (32 * 4 + 21) * 4
    assert found.output == 3 * 32 + 3 * 130 * 4
    assert found.uniforms == 8 * 256
    assert found.readback == 3 * 8 * 4 + 3 * 130 * 4
    assert found.spare == 64
    assert found.total == sum(getattr(found, name) for name in type(found).__slots__)


def test_what_a_window_forgets_takes_no_memory(program: Program) -> None:
    windows = Windows(context=1000, chunk=32, sequences=2)
    small = footprint(replace(program, window=40, sinks=8), windows)
    assert small.key_values == 2 * (-(-72 // 16) + 2) * 64
    assert footprint(replace(program, window=990), windows).key_values == 2 * 63 * 64


def test_functions_share_scratch_by_size(program: Program) -> None:
    windows = Windows(64, 1, 9)  # batch needs more than prefill
    assert scratch_sizes(program, windows) == [9 * 32, 9 * 12]
    assert function_scratch(program, "prefill", windows) == {"x": 32, "y": 16}
    assert uniform_bytes(program, "prefill") == 256


@pytest.mark.parametrize(("size", "expected"), [(0, 16), (1, 16), (16, 16), (17, 20), (20, 20)])
def test_padding(size: int, expected: int) -> None:
    assert padded(size) == expected
