"""Programs to JSON and back. Reading trusts nothing: whatever is wrong raises `ArtifactCorrupt`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from edge_router.errors import ArtifactCorrupt
from edge_router.parsing import strict_json
from edge_router.webgpu_program.expression import Expression
from edge_router.webgpu_program.format import (
    FORMAT,
    VARIABLES,
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
    Stored,
    Weight,
)

_PREFILL = ("prefill", "prefill_few", "prefill_half")
FUNCTIONS = ("decode", "decode_far", *_PREFILL, "batch", "best", "likeliest")


def write_program(program: Program, file: Path) -> None:
    file.write_text(json.dumps(to_json(program), separators=(",", ":")), encoding="utf-8")


def read_program(file: Path) -> Program:
    """Raises `ArtifactCorrupt` for a file that is none, or was written in another format."""
    try:
        return from_json(strict_json.read_object(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactCorrupt(file, f"not a program: {type(error).__name__}: {error}") from error


def to_json(program: Program) -> dict[str, object]:
    return {
        "format": FORMAT,
        "model": dict(program.model),
        "vocab_size": program.vocab_size,
        "window": program.window,
        "sinks": program.sinks,
        "shaders": {
            name: {
                "entry": shader.entry,
                "writes": [int(writes) for writes in shader.writes],
                "scalars": shader.scalars,
                "about": dict(shader.about),
                "float16": shader.float16,
                "source": shader.source,
            }
            for name, shader in program.shaders.items()
        },
        "buffers": {name: _buffer_to_json(buffer) for name, buffer in program.buffers.items()},
        "functions": {
            name: {
                "scratch": {key: size.to_json() for key, size in function.scratch.items()},
                "output_rows": function.output_rows.to_json(),
                "launches": [
                    [
                        launch.shader,
                        list(launch.buffers),
                        [count.to_json() for count in launch.grid],
                        [scalar.to_json() for scalar in launch.scalars],
                    ]
                    for launch in function.launches
                ],
            }
            for name, function in program.functions.items()
        },
    }


def from_json(data: Mapping[str, Any]) -> Program:
    """Raises `ValueError`, `KeyError` or `TypeError` with what is wrong."""
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']}, and this version reads format {FORMAT}")
    program = Program(
        model=dict(data["model"]),
        vocab_size=_count(data["vocab_size"]),
        shaders={name: _shader(entry) for name, entry in data["shaders"].items()},
        buffers={name: _buffer(entry) for name, entry in data["buffers"].items()},
        functions={name: _function(entry) for name, entry in data["functions"].items()},
        window=_count(data["window"], least=0),
        sinks=_count(data["sinks"], least=0),
    )
    _check(program)
    return program


def _buffer_to_json(buffer: Buffer) -> dict[str, object]:
    match buffer:
        case Weight():
            rows = {} if buffer.rows is None else {"rows": list(buffer.rows)}
            kept = {"tensor": buffer.tensor, "bytes": buffer.bytes, "stored": buffer.stored}
            return {"kind": "weight", **kept, **rows}
        case KeyValues():
            return {"kind": "key_values", "page_bytes": buffer.page_bytes}
        case Rotary():
            return {"kind": "rotary", "frequencies": list(buffer.frequencies), "scale": buffer.scale}
        case Control():
            return {"kind": "control"}
        case Logits():
            return {"kind": "logits", "row_bytes": buffer.row_bytes}
        case Picked():
            return {"kind": "picked"}


def _buffer(data: Mapping[str, Any]) -> Buffer:
    kind = data["kind"]
    if kind == "weight":
        if data["stored"] not in ("raw", "float32"):
            raise ValueError(f"a weight stored as {data['stored']!r}")
        rows = None if data.get("rows") is None else (int(data["rows"][0]), int(data["rows"][1]))
        stored = cast(Stored, data["stored"])
        return Weight(str(data["tensor"]), _count(data["bytes"]), stored, rows)
    if kind == "key_values":
        return KeyValues(_count(data["page_bytes"]))
    if kind == "rotary":
        return Rotary(tuple(float(value) for value in data["frequencies"]), float(data["scale"]))
    if kind == "control":
        return Control()
    if kind == "logits":
        return Logits(_count(data["row_bytes"]))
    if kind == "picked":
        return Picked()
    raise ValueError(f"a buffer of the kind {kind!r}")


def _shader(data: Mapping[str, Any]) -> Shader:
    writes = tuple(bool(value) for value in data["writes"])
    about = dict(data["about"])
    float16 = bool(data["float16"])
    return Shader(str(data["source"]), str(data["entry"]), writes, int(data["scalars"]), about, float16)


def _function(data: Mapping[str, Any]) -> ProgramFunction:
    return ProgramFunction(
        launches=tuple(_launch(*entry) for entry in data["launches"]),
        scratch={name: _expression(size) for name, size in data["scratch"].items()},
        output_rows=_expression(data["output_rows"]),
    )


def _launch(shader: str, buffers: list[str], grid: list[str | int], scalars: list[str | int]) -> Launch:
    x, y, z = map(_expression, grid)
    return Launch(shader, tuple(buffers), (x, y, z), tuple(map(_expression, scalars)))


def _expression(text: str | int) -> Expression:
    expression = Expression(text)
    unknown = expression.names - VARIABLES
    if unknown:
        raise ValueError(f"{text!r} depends on {', '.join(sorted(unknown))}")
    return expression


def _count(value: object, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} where a {'positive ' if least else ''}whole number belongs")
    return value


def _check(program: Program) -> None:
    """That every name means something, and every launch fits its shader."""
    if program.sinks and program.sinks >= program.window:
        raise ValueError(f"{program.sinks} sinks in a window of {program.window}")
    missing = [name for name in FUNCTIONS if name not in program.functions]
    if missing:
        raise ValueError(f"no function {', '.join(missing)}")
    for kind in (Control, Logits, Picked):
        if not isinstance(program.buffers.get(kind.__name__.lower()), kind):
            raise ValueError(f"no buffer {kind.__name__.lower()}")
    for name, function in program.functions.items():
        known = {*program.buffers, *function.scratch}
        for launch in function.launches:
            shader = program.shaders[launch.shader]
            if len(launch.buffers) != len(shader.writes) or len(launch.scalars) != shader.scalars:
                raise ValueError(f"{name} launches {launch.shader} with other arguments than it takes")
            strange = set(launch.buffers) - known
            if strange:
                raise ValueError(f"{name} launches {launch.shader} on {', '.join(sorted(strange))}")
