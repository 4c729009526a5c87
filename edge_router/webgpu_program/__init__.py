"""Compiled models that are data: what the compiler for WebGPU writes and its executor reads."""

from __future__ import annotations

from edge_router.webgpu_program.expression import Expression
from edge_router.webgpu_program.format import (
    CANDIDATES,
    FAR,
    FEW_ROWS,
    FORMAT,
    PAGE_SIZE,
    PICKED_WORDS,
    ROW_WORDS,
    SORTED,
    Buffer,
    Control,
    KeyValues,
    Launch,
    Logits,
    Picked,
    Program,
    ProgramFunction,
    Rotary,
    Shader,
    Weight,
)
from edge_router.webgpu_program.memory import Footprint, Windows, footprint, pages_per_sequence
from edge_router.webgpu_program.text import read_program, write_program

__all__ = [
    "CANDIDATES",
    "FAR",
    "FEW_ROWS",
    "FORMAT",
    "PAGE_SIZE",
    "PICKED_WORDS",
    "ROW_WORDS",
    "SORTED",
    "Buffer",
    "Control",
    "Expression",
    "Footprint",
    "KeyValues",
    "Launch",
    "Logits",
    "Picked",
    "Program",
    "ProgramFunction",
    "Rotary",
    "Shader",
    "Weight",
    "Windows",
    "footprint",
    "pages_per_sequence",
    "read_program",
    "write_program",
]
