"""How fast the weak model runs here, on its own or beside llama.cpp on the same weights, or another format.

Each side lives in its own process and the two never compute at the same time: idle threads of one would
take the cores from the other. Rounds alternate (A B A B ...), so that a machine that gets warm or busy
meets both; a ratio is formed within a round.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from edge_router.bench.weak_sides import on_cuda
from edge_router.config import Config
from edge_router.errors import GenerationFailed, InvalidModel, MissingExtra, UnknownName
from edge_router.paths import Paths
from edge_router.quantization import QUANTIZATIONS
from edge_router.types import Progress

if TYPE_CHECKING:
    from edge_router.catalog import ModelCard
    from edge_router.compile.pipeline import CompiledModel
    from edge_router.engines.local.tokenizer import TextTokenizer
    from edge_router.engines.webgpu.profile import Profile

OURS, LLAMA_CPP = "edge_router", "llama.cpp"
ROUNDS = 5
_DECODE_PROMPT = 32  # tokens
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens: of the prompts that are read, and of the answer that is written."""

    prefill: tuple[int, ...] = (256, 512)
    decode: int = 64


USUAL, SHORT = Lengths(), Lengths((64, 128), 16)  # short ones for what is very slow


@dataclass(frozen=True, slots=True)
class Measured:
    """The median of several rounds, and the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Measured:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second; `prefill` by the length of the prompt in tokens."""

    prefill: Mapping[int, Measured]
    decode: Measured


@dataclass(frozen=True, slots=True)
class Comparison:
    """Another program or format on the same machine; the ratios are ours over theirs."""

    speed: Speed
    prefill_ratio: Mapping[int, Measured]
    decode_ratio: Measured


@dataclass(frozen=True, slots=True)
class WeakBench:
    """`ttft_ms`: from a question, nothing of it known before, to its answer's first piece.

    `python_ms`: of a sampled token, in which nothing compiled runs; of engine tvm.
    """

    device: str
    model: str
    quantization: str
    threads: int
    speed: Speed
    ttft_ms: Measured
    peak_bytes: int  # of the process that runs the model, all in all
    against: Mapping[str, Comparison]
    gpu: Profile | None = None  # where a GPU does the work
    python_ms: Measured | None = None
    memory_limit: float | None = None  # tokens per second that the GPU's memory could be read for

    def to_dict(self) -> dict[str, object]:
        """The JSON of `bench weak --json`; medians."""

        def by_length(values: Mapping[int, Measured], digits: int) -> dict[str, float]:
            return {str(length): round(value.median, digits) for length, value in values.items()}

        gpu = {} if self.gpu is None else {"gpu": self.gpu.to_dict()}
        python = {} if self.python_ms is None else {"python_ms": round(self.python_ms.median, 3)}
        share = {} if self.memory_share is None else {"decode_memory_share": round(self.memory_share, 3)}
        return {
            "device": self.device,
            "model": self.model,
            "threads": self.threads,
            "prefill_tokens_per_s": by_length(self.speed.prefill, 1),
            "decode_tokens_per_s": round(self.speed.decode.median, 1),
            "ttft_ms": round(self.ttft_ms.median, 1),
            "peak_bytes": self.peak_bytes,
            "against": {
                name: {
                    "prefill_ratio": by_length(other.prefill_ratio, 3),
                    "decode_ratio": round(other.decode_ratio.median, 3),
                }
                for name, other in self.against.items()
            },
            **python,
            **share,
            **gpu,
        }

    @property
    def memory_share(self) -> float | None:
        """Of the speed at which weights, keys and values would be read as fast as the memory can."""
        return None if self.memory_limit is None else self.speed.decode.median / self.memory_limit


def bench_weak(
    config: Config,
    paths: Paths,
    *,
    against: str | None = None,
    progress: Progress,
    rounds: int = ROUNDS,
    lengths: Lengths = USUAL,
    random: bool = False,
) -> WeakBench:
    """Build what is missing, then measure. `against` is None, "llama.cpp" or a quantization.

    `random`: not the model's own weights, but as many drawn ones.

    Raises what building and starting the engine raise, `UnknownName`, `MissingExtra` without
    llama-cpp-python, `InvalidModel` for a comparison where the weights are no GGUF file.
    """
    from edge_router.bench.random_weights import random_model
    from edge_router.engines import resolved
    from edge_router.engines.tvm import built

    if against is not None and against not in (LLAMA_CPP, *QUANTIZATIONS):
        raise UnknownName("program or format to compare with", against, (LLAMA_CPP, *QUANTIZATIONS))
    if against == LLAMA_CPP and find_spec("llama_cpp") is None:
        raise MissingExtra("llama-cpp-python", "bench", "the comparison with llama.cpp")
    config = resolved(config)
    if random:
        with random_model(config, paths, progress) as drawn:
            return _measure(config, drawn, paths, None, progress, rounds, lengths)
    return _measure(config, built(config, paths, progress), paths, against, progress, rounds, lengths)


def _measure(
    config: Config, compiled: CompiledModel, paths: Paths, against: str | None, progress: Progress,
    rounds: int, lengths: Lengths,
) -> WeakBench:  # fmt: skip
    from edge_router.engines.tvm import built, thread_count

    threads = thread_count(config, paths)
    sides = {OURS: _options(config, compiled, threads)}
    if against == LLAMA_CPP:
        gguf = _gguf(compiled.card, config, paths, progress)
        sides[against] = {"gguf": str(gguf), "threads": threads}
    elif against is not None:
        other = config.replace(**{"weak.quantization": against})
        sides[against] = _options(other, built(other, paths, progress), threads)
    taken = _take(sides, Prompts.of(compiled.model_dir / "tokenizer.json"), rounds, lengths, progress)
    ours = taken.pop(OURS)
    gpu = _profiled(config, compiled) if config.weak.engine == "webgpu" else None
    name, limit = _device(config, compiled, paths) if gpu is None else (gpu.adapter, None)
    return WeakBench(
        device=name,
        model=compiled.card.name,
        quantization=str(compiled.config["quantization"]),
        threads=threads,
        speed=ours.speed(),
        ttft_ms=Measured.of(ours.ttft_ms),
        peak_bytes=ours.peak_bytes,
        against={name: _compared(ours, theirs) for name, theirs in taken.items()},
        gpu=gpu,
        python_ms=Measured.of(ours.python_ms) if ours.python_ms else None,
        memory_limit=limit,
    )


def _device(config: Config, compiled: CompiledModel, paths: Paths) -> tuple[str, float | None]:
    """Its name, and how many tokens per second an NVIDIA GPU's memory could be read for."""
    from edge_router.device import gpus, host
    from edge_router.vram import Settings
    from edge_router.vram.shapes import ModelShape
    from edge_router.vram.speed import decode_tokens_per_s

    if not on_cuda({"engine": config.weak.engine, "device": config.weak.device}):
        return host(paths.artifacts / "host.json").cpu_name, None
    gpu = next((gpu for gpu in gpus() if gpu.maker == "nvidia"), None)
    if gpu is None or gpu.bandwidth is None:
        return "CUDA" if gpu is None else gpu.name, None
    kept = 2 * (_DECODE_PROMPT + USUAL.decode // 2)  # half of it is what is read on average
    settings = Settings(str(compiled.config["quantization"]), kept, kept)
    inner = cast("Mapping[str, object]", compiled.config["model_config"])
    numbers = {"model_type": compiled.config["model_type"], **inner}
    return gpu.name, decode_tokens_per_s(ModelShape.of(numbers, compiled.card.name), settings, gpu.bandwidth)


def _options(config: Config, compiled: CompiledModel, threads: int) -> dict[str, object]:
    return {
        "engine": config.weak.engine,
        "device": config.weak.device,
        "model_dir": str(compiled.model_dir),
        "library": str(compiled.library),
        "threads": threads,
        **{name: compiled.config[name] for name in ("context_window_size", "prefill_chunk_size")},
    }


def _profiled(config: Config, compiled: CompiledModel) -> Profile:
    from edge_router.engines.webgpu.adapters import adapters, choose
    from edge_router.engines.webgpu.profile import profile
    from edge_router.engines.webgpu.weights import DirectoryWeights
    from edge_router.program import Windows, read_program

    read = DirectoryWeights(compiled.model_dir).read
    windows = Windows(context=512, chunk=64)
    return profile(choose(config.weak.device, adapters()), read_program(compiled.library), windows, read)


def _gguf(card: ModelCard, config: Config, paths: Paths, progress: Progress) -> Path:
    from edge_router.hub import fetch

    for source in (card.original, card.source):
        if source is not None:
            path = fetch(source, paths.downloads, progress=progress, offline=config.offline)
            if path.suffix == ".gguf":
                return path
    raise InvalidModel(card.name, f"its weights are no GGUF file, which {LLAMA_CPP} needs")


class Prompts:
    """Pieces of a real text, each of a given number of tokens and no two with the same beginning."""

    def __init__(self, tokenizer: TextTokenizer, text: str) -> None:
        self._tokenizer, self._text = tokenizer, text
        self._starts = iter(range(0, len(text), 97))

    @classmethod
    def of(cls, tokenizer: Path) -> Prompts:
        from edge_router.engines.local.tokenizer import TextTokenizer

        text = (files("edge_router.compile.weights") / "texts" / "calibration.txt").read_text(encoding="utf-8")
        return cls(TextTokenizer(tokenizer), text)

    def next(self, tokens: int) -> str:
        """A text that is `tokens` tokens long."""
        for start in self._starts:
            end = start
            while end < len(self._text):
                found = len(self._tokenizer.encode(self._text[start:end]))
                if found == tokens:
                    return self._text[start:end]
                if found > tokens:
                    break
                end += max(1, tokens - found)  # a token is at least a character, in a text like this one
        raise ValueError(f"the text has no more pieces of {tokens} tokens")

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


class _Taken:
    """What one side was measured at, round by round."""

    def __init__(self, lengths: Lengths) -> None:
        self.prefill: dict[int, list[float]] = {length: [] for length in lengths.prefill}  # tokens per second
        self.decode: list[float] = []
        self.ttft_ms: list[float] = []
        self.python_ms: list[float] = []
        self.peak_bytes = 0

    def speed(self) -> Speed:
        prefill = {length: Measured.of(values) for length, values in self.prefill.items()}
        return Speed(prefill, Measured.of(self.decode))


def _compared(ours: _Taken, theirs: _Taken) -> Comparison:
    def ratio(one: Sequence[float], other: Sequence[float]) -> Measured:
        return Measured.of([mine / its for mine, its in zip(one, other, strict=True)])

    return Comparison(
        theirs.speed(),
        {length: ratio(values, theirs.prefill[length]) for length, values in ours.prefill.items()},
        ratio(ours.decode, theirs.decode),
    )


def _take(
    sides: Mapping[str, Mapping[str, object]],
    prompts: Prompts,
    rounds: int,
    lengths: Lengths,
    progress: Progress,
) -> dict[str, _Taken]:
    taken = {name: _Taken(lengths) for name in sides}
    with ExitStack() as stack, progress.step("measure", rounds + 1, "rounds") as step:
        running = {name: stack.enter_context(_side(name, options)) for name, options in sides.items()}
        for number in range(rounds + 1):
            for length in lengths.prefill:
                text = prompts.next(length)
                for name, side in running.items():
                    seconds = side.ask("prefill", text=text, ids=prompts.ids(text))
                    taken[name].prefill[length].append(length / seconds)
            text = prompts.next(_DECODE_PROMPT)
            for name, side in running.items():
                seconds = side.ask("decode", text=text, ids=prompts.ids(text), count=lengths.decode)
                taken[name].decode.append(lengths.decode / seconds)
            seconds = running[OURS].ask("ttft", text=f"{number}: {prompts.next(_DECODE_PROMPT)}")
            taken[OURS].ttft_ms.append(1000 * seconds)
            if sides[OURS]["engine"] == "tvm" and not on_cuda(sides[OURS]):
                text = prompts.next(_DECODE_PROMPT)
                seconds = running[OURS].ask("python", text=text, count=lengths.decode)
                taken[OURS].python_ms.append(1000 * seconds)
            if number == 0:  # to warm up: first touches of memory, threads that start
                taken = {name: _Taken(lengths) for name in sides}
            step.advance()
        taken[OURS].peak_bytes = int(running[OURS].ask("peak"))
    return taken


class _Side:
    """A process that measures on demand; see weak_sides.py."""

    def __init__(self, name: str, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._name, self._process, self._errors = name, process, errors

    def ask(self, what: str, **details: object) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"what": what, **details}) + "\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError) as error:  # it has ended
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            raise GenerationFailed(self._name, *last or ["its process ended"]) from error


@contextmanager
def _side(name: str, options: Mapping[str, object]) -> Iterator[_Side]:
    command = [sys.executable, "-m", "edge_router.bench.weak_sides", name, json.dumps(options)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
        ) as process,
    ):
        try:
            yield _Side(name, process, errors)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with suppress(OSError):  # what was written last may have nobody to go to
            process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
