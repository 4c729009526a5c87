"""llama.cpp by its own clock: llama-bench for one sequence, llama-batched-bench for several.

Both decode without choosing a token, which every answer needs, so their numbers flatter them a little.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path

from edge_router.bench.peers.cases import DECODED, BenchCase
from edge_router.errors import GenerationFailed, InvalidInput
from edge_router.parsing import strict_json

NAME = "llama.cpp"
_BENCH, _BATCHED = "llama-bench", "llama-batched-bench"
_SPARE = 256  # tokens beside those of a case, for llama.cpp rounds a context up
_WARM = "16"  # tokens that llama-batched-bench reads first, and that nobody counts
_LIBRARIES = ("libllama.so", "libllama.dylib", "llama.dll")
Run = Callable[[Sequence[str]], str]

BUILD = """\
python -m pip download --no-deps --no-binary llama-cpp-python llama-cpp-python
tar xzf llama_cpp_python-*.tar.gz
cmake -S llama_cpp_python-*/vendor/llama.cpp -B llama -DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release
cmake --build llama --config Release --target llama-bench llama-batched-bench
edge-router bench weak --against llama.cpp --llama-bench llama/bin/llama-bench"""


class LlamaBenchMissing(InvalidInput):
    """llama-bench is neither on the PATH nor where the user said."""

    def __init__(self, place: str | None) -> None:
        self.place = place
        where = "on the PATH" if place is None else f"at {place}"
        super().__init__(
            f"llama-bench is not {where}; install llama.cpp (brew or winget install llama.cpp), or build it "
            f"with a C++ compiler and CMake:\n{BUILD}\n"
        )


def find(place: Path | None) -> Path:
    """llama-bench, there or on the PATH. Raises `LlamaBenchMissing`."""
    found = shutil.which(_BENCH if place is None else str(place))
    if found is None:
        raise LlamaBenchMissing(None if place is None else str(place))
    return Path(found)


def run(command: Sequence[str]) -> str:
    """What it prints. Raises `GenerationFailed` with the last line of its errors."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    except OSError as error:
        raise GenerationFailed(NAME, f"{command[0]}: {error.strerror or error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise GenerationFailed(NAME, said[-1] if said else f"{command[0]} ended with {done.returncode}")
    return done.stdout


class LlamaCpp:
    """A `Side`: one GGUF file, at a number of threads. `facts`: what llama-bench last said of itself."""

    def __init__(
        self,
        bench: Path,
        gguf: Path,
        threads: int,
        run: Run = run,
        facts: MutableMapping[str, object] | None = None,
    ) -> None:
        self._bench, self._gguf, self._threads, self._run = bench, gguf, threads, run
        self.facts = {} if facts is None else facts

    def speed(self, case: BenchCase) -> float | None:
        return self._single(case) if case.batch == 1 else self._several(case)

    def _single(self, case: BenchCase) -> float:
        read = case.kind == "prefill"
        what = ["-p", str(case.length), "-n", "0"] if read else ["-p", "0", "-n", str(DECODED)]
        depth = [] if read or not case.length else ["-d", str(case.length)]
        settings = ["-t", str(self._threads), "-fa", "1", "-ngl", "0", "-r", "1", "-o", "json"]
        said = self._run([str(self._bench), "-m", str(self._gguf), *what, *depth, *settings])
        facts, speed = single_speed(said)
        self.facts.update(facts)
        return speed

    def _several(self, case: BenchCase) -> float | None:
        program = self._bench.with_name(_BATCHED + self._bench.suffix)
        if not program.is_file():
            return None
        length, threads = max(case.length, 1), str(self._threads)
        read = case.kind == "prefill"
        written, shared = ("1", []) if read else (str(DECODED), ["-pps"])
        context = case.batch * (case.context + _SPARE)
        said = self._run(
            [
                *(
                    str(program),
                    "-m",
                    str(self._gguf),
                    "-t",
                    threads,
                    "-tb",
                    threads,
                    "-fa",
                    "on",
                    "-ngl",
                    "0",
                ),
                *(
                    "-c",
                    str(context),
                    "-b",
                    "2048",
                    "-ub",
                    "512",
                    "-npp",
                    f"{_WARM},{length}",
                    "-ntg",
                    written,
                ),
                *("-npl", str(case.batch), *shared, "--output-format", "jsonl"),
            ]
        )
        return several_speed(said, case)


def single_speed(said: str) -> tuple[Mapping[str, object], float]:
    """What llama-bench says of itself in JSON, and the tokens per second of its only test."""
    try:
        (test,) = strict_json.parse(said)
        return test, float(test["avg_ts"])
    except (ValueError, TypeError, KeyError) as error:
        raise GenerationFailed(NAME, f"llama-bench printed {said[:80]!r}") from error


def several_speed(said: str, case: BenchCase) -> float:
    """Tokens per second of the last test that llama-batched-bench prints, which must be of this case."""
    lines = [line for line in said.splitlines() if line.startswith("{")]
    try:
        test = strict_json.parse_object(lines[-1])
        if (test["pp"], test["pl"]) != (max(case.length, 1), case.batch):
            raise ValueError("another test")
        speed = test["speed_pp" if case.kind == "prefill" else "speed_tg"]
        return float(str(speed))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise GenerationFailed(NAME, f"llama-batched-bench printed {said[-80:]!r}") from error


_SYSTEM = """
import ctypes, sys
for name in sys.argv[2:]:
    ctypes.CDLL(name, mode=getattr(ctypes, "RTLD_GLOBAL", 0))
llama = ctypes.CDLL(sys.argv[1])
load = getattr(llama, "ggml_backend_load_all", None)
load and load()
llama.llama_print_system_info.restype = ctypes.c_char_p
sys.stdout.write(llama.llama_print_system_info().decode())
"""


def native_flags(bench: Path, run: Run = run) -> str | None:
    """The vector extensions that llama.cpp was built with, as its library beside llama-bench tells them.

    None where there is no such library, as in a static build.
    """
    folders = (bench.resolve().parent, bench.resolve().parent.parent / "lib")
    found = (folder / name for folder in folders for name in _LIBRARIES)
    library = next((file for file in found if file.is_file()), None)
    if library is None:
        return None
    try:
        said = run([sys.executable, "-c", _SYSTEM, os.fspath(library)])
    except GenerationFailed:
        return None
    return flags_of(said)


def flags_of(said: str) -> str | None:
    """Out of "CPU : SSE3 = 1 | AVX512 = 0 | REPACK = 1 | " what is there, by name."""
    pairs = (part.rpartition(":")[2].partition("=") for part in said.split("|"))
    return " ".join(name.strip() for name, _, value in pairs if value.strip() == "1") or None
