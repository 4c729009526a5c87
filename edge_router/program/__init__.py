"""Compiled models that are data: what the compiler for WebGPU writes and its executor reads."""

from __future__ import annotations

from edge_router.program.expression import Expression
from edge_router.program.format import (
    FAR,
    FEW_ROWS,
    FORMAT,
    PAGE_SIZE,
    ROW_WORDS,
    Buffer,
    Control,
    Function,
    KeyValues,
    Launch,
    Program,
    Rotary,
    Shader,
    Weight,
)
from edge_router.program.memory import Footprint, Windows, footprint
from edge_router.program.text import read_program, write_program

__all__ = [
    "FAR",
    "FEW_ROWS",
    "FORMAT",
    "PAGE_SIZE",
    "ROW_WORDS",
    "Buffer",
    "Control",
    "Expression",
    "Footprint",
    "Function",
    "KeyValues",
    "Launch",
    "Program",
    "Rotary",
    "Shader",
    "Weight",
    "Windows",
    "footprint",
    "read_program",
    "write_program",
]
