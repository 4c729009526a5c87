"""What a table of speeds needs beside it: the machine, its instructions, its memory, the commit."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.system.paths import Paths

if TYPE_CHECKING:
    from edge_router.vram.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class BenchMachine:
    """`commit` is this program's: of the checkout, marked where files differ from it, else the version."""

    processor: str
    instructions: str
    cores: int
    commit: str


def machine(paths: Paths) -> BenchMachine:
    from edge_router.compile.kernels.isa import Isa
    from edge_router.device import host

    here = host(paths.artifacts / "host.json")
    arm = here.machine.lower() in ("aarch64", "arm64")
    isa = Isa.of("aarch64" if arm else here.machine, here.features)
    return BenchMachine(here.cpu_name, instructions(arm, isa.lanes, isa.dot), here.physical_cores, commit())


def instructions(arm: bool, lanes: int, dot: str) -> str:
    """What our kernels are made of: the widest vectors and how they multiply integers."""
    if arm:
        return "NEON"
    width = {16: "AVX-512", 8: "AVX2"}.get(lanes, "SSE")
    if dot != "vnni":
        return width
    return "AVX-512-VNNI" if lanes == 16 else "AVX-VNNI"


def commit(folder: Path | None = None) -> str:
    """Of the checkout that `folder`, by default this file's, lies in."""
    import edge_router

    here = folder or Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    except OSError:
        return edge_router.__version__
    return done.stdout.strip() if done.returncode == 0 else edge_router.__version__


def decode_limit(shape: ModelShape, quantization: str, depth: int, batch: int, bandwidth: float) -> float:
    """Tokens per second that a memory of `bandwidth` bytes per second can be read for.

    A step reads the weights once, and the keys and values of each of its `batch` answers.
    """
    from edge_router.vram import Settings
    from edge_router.vram.speed import bytes_per_token

    weights = bytes_per_token(shape, Settings(quantization, 0, 0))
    kept = bytes_per_token(shape, Settings(quantization, 2 * depth, 0)) - weights
    return batch * bandwidth / (weights + batch * kept)
