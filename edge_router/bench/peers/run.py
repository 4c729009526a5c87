"""`bench weak --against llama.cpp`: the files, the programs, the rounds, the tables."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.bench.peers import files, llama_cpp, openvino
from edge_router.bench.peers.cases import DECODED, BenchCase, Grid, Side
from edge_router.bench.peers.machine import decode_limit, machine
from edge_router.bench.peers.results import PeerBench, ResultTable, Row, comparisons, rows
from edge_router.bench.peers.rounds import in_turns
from edge_router.bench.peers.side import opened
from edge_router.bench.weak import measured
from edge_router.bench.weak_results import USUAL, Comparison, Lengths, WeakBench
from edge_router.bench.weak_rounds import OURS
from edge_router.config.settings import Config
from edge_router.errors import InvalidModel, MissingExtra, UnknownName
from edge_router.system.paths import Paths
from edge_router.types import Progress

if TYPE_CHECKING:
    from edge_router.catalog import ModelCard
    from edge_router.compile.pipeline import CompiledModel

PEERS = (llama_cpp.NAME, openvino.NAME)
SHAPES = ("Llama-3.2-1B-Instruct", "Qwen3-1.7B", "Llama-3.2-3B-Instruct")
_QUESTION, _SPARE = 128, 64  # tokens of a question with its template; beside those of the longest case
_Q4_0 = "Q4_0"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure. `threads`: each number of them; `bench`: where llama-bench is, None: on
    the PATH."""

    against: Sequence[str]
    threads: Sequence[int]
    grid: Grid
    rounds: int = 5
    bench: Path | None = None
    lengths: Lengths = USUAL  # of the model alone


@dataclass(frozen=True, slots=True)
class _Subject:
    """A model in all its forms. `files`: GGUF files by how their numbers lie there."""

    compiled: CompiledModel
    files: Mapping[str, Path]
    random: bool


def bench_peers(
    config: Config,
    paths: Paths,
    wanted: Wanted,
    *,
    random: bool = False,
    sizes: bool = False,
    progress: Progress,
) -> PeerBench:
    """The configured model beside each other program. `random`: drawn weights of its shape instead; `sizes`:
    drawn ones of the shapes of `SHAPES`, too.

    Raises `UnknownName`, `LlamaBenchMissing`, `MissingExtra` without OpenVINO GenAI, `InvalidModel` for
    weights that are no GGUF file, and what building raises.
    """
    from edge_router.engines import resolved

    programs = _programs(wanted)
    given = {"weak.device": "cpu", "weak.threads": max(wanted.threads)}
    config = resolved(config.replace(**given))
    tables, facts = [], dict[str, object]()
    alone: WeakBench | None = None
    models = [(config.weak.model, random), *((name, True) for name in (SHAPES if sizes else ()))]
    for model, drawn in models:
        own = _fitted(config.replace(**{"weak.model": model}), wanted)
        with _subject(own, paths, drawn, progress) as subject:
            if alone is None:
                alone = measured(own, subject.compiled, paths, None, progress, wanted.rounds, wanted.lengths)
            tables.append(_measure(own, subject, wanted, facts, progress))
    if facts:
        programs[llama_cpp.NAME] = f"build {facts.get('build_commit')}, {programs[llama_cpp.NAME]}"
    assert alone is not None
    alone = replace(alone, against=compared(tables[0], wanted.against, alone.threads))
    return PeerBench(machine(paths), wanted.rounds, programs, tables, alone)


def compared(table: ResultTable, against: Sequence[str], threads: int) -> dict[str, Comparison]:
    """The table's rows as `bench weak --json` has always had them, by program."""
    found = [row for row in table.rows if row.threads == threads]
    names = dict.fromkeys(name for row in found for name in row.others)
    grouped = {program: [name for name in names if name.startswith(program)] for program in against}
    return comparisons(found, grouped)


def _programs(wanted: Wanted) -> dict[str, str]:
    """Each program and what it says of itself. Raises `UnknownName`, `LlamaBenchMissing`, `MissingExtra`."""
    found = {}
    for name in wanted.against:
        if name == llama_cpp.NAME:
            bench = llama_cpp.find(wanted.bench)
            flags = llama_cpp.native_flags(bench) or "it does not tell for which instructions it was built"
            found[name] = f"{bench.name}, flash attention on; {flags}"
        elif name == openvino.NAME:
            if find_spec(openvino.PACKAGE) is None:
                raise MissingExtra("openvino-genai", "bench", "the comparison with OpenVINO")
            found[name] = f"GenAI {version('openvino-genai')}; activations as they are, and in eight bits"
        else:
            raise UnknownName("program or format to compare with", name, (*PEERS, *QUANTIZATIONS))
    return found


def _fitted(config: Config, wanted: Wanted) -> Config:
    """With a context that the longest case fits into, for as many answers as there are at once."""
    longest = max(wanted.grid.context, *wanted.lengths.prefill, _QUESTION) + _SPARE
    context = max(config.weak.context_window_size or 0, longest)
    return config.replace(
        **{"weak.context_window_size": context, "weak.max_sequences": max(wanted.grid.batches)}
    )


@contextmanager
def _subject(config: Config, paths: Paths, random: bool, progress: Progress) -> Iterator[_Subject]:
    """Its files lie below the artifacts, and go at the end."""
    from edge_router.bench.random_weights import random_model
    from edge_router.engines.tvm.engine import built

    with ExitStack() as stack:
        if random:
            compiled = stack.enter_context(random_model(config, paths, progress))
        else:
            compiled = built(config, paths, progress)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=paths.artifacts, prefix="random-")))
        made = folder / f"{_Q4_0}.gguf"
        with progress.step("write Q4_0 for the others"):
            if random:
                files.drawn(compiled.card.config, made)
                forms = {_Q4_0: made}
            else:
                own = _gguf(compiled.card, config, paths, progress)
                files.requantized(own, made)
                forms = {_Q4_0: made, f"{files.form_of(own)} as it is": own}
        yield _Subject(compiled, forms, random)


def _gguf(card: ModelCard, config: Config, paths: Paths, progress: Progress) -> Path:
    from edge_router.hub import fetch

    for source in (card.original, card.source):
        if source is not None:
            path = fetch(source, paths.downloads, progress=progress, offline=config.offline)
            if path.suffix == ".gguf":
                return path
    raise InvalidModel(
        card.name, "its weights are no GGUF file, which other programs need; --random draws some"
    )


def _measure(
    config: Config, subject: _Subject, wanted: Wanted, facts: dict[str, object], progress: Progress
) -> ResultTable:
    from edge_router.device.bandwidth import memory_bandwidth
    from edge_router.vram.shapes import ModelShape

    compiled, cases = subject.compiled, list(wanted.grid.cases())
    inner = cast("Mapping[str, object]", compiled.config["model_config"])
    shape = ModelShape.of({"model_type": compiled.config["model_type"], **inner}, compiled.card.name)
    quantization = str(compiled.config["quantization"])
    found: list[Row] = []
    notes: list[str] = []
    bandwidths: dict[int, float] = {}
    for threads in wanted.threads:
        before = max(memory_bandwidth(threads) for _ in range(wanted.rounds))
        with (
            ExitStack() as stack,
            progress.step(f"measure, {threads} threads", wanted.rounds * len(cases)) as step,
        ):
            sides = _sides(stack, config, subject, wanted, threads, facts)
            speeds, failed = in_turns(sides, cases, wanted.rounds, step, ours=OURS)
        bandwidths[threads] = bandwidth = max(
            before, *(memory_bandwidth(threads) for _ in range(wanted.rounds))
        )
        limits = {
            case: decode_limit(shape, quantization, case.length + DECODED // 2, case.batch, bandwidth)
            for case in cases
            if case.kind == "decode"
        }
        found += rows(speeds, threads, OURS, limits)
        notes += _notes(failed)
    named = quantization
    if config.weak.activations != "int16":
        named += f", activations in {config.weak.activations}"
    return ResultTable(
        compiled.card.name, named, subject.random, found, bandwidths, list(dict.fromkeys(notes))
    )


def _notes(failed: Mapping[tuple[str, BenchCase], str]) -> list[str]:
    """A line for each side and reason."""
    cases: dict[tuple[str, str], list[str]] = {}
    for (name, case), why in failed.items():
        cases.setdefault((name, why), []).append(case.name)
    return [f"{name}: {why} ({'; '.join(told)})" for (name, why), told in cases.items()]


def _sides(
    stack: ExitStack,
    config: Config,
    subject: _Subject,
    wanted: Wanted,
    threads: int,
    facts: dict[str, object],
) -> dict[str, Side]:
    compiled, grid = subject.compiled, wanted.grid
    options = {
        "engine": "tvm",
        "device": "cpu",
        "model_dir": str(compiled.model_dir),
        "library": str(compiled.library),
        "threads": threads,
        "max_sequences": max(grid.batches),
        "context_window_size": config.weak.context_window_size,
        "prefill_chunk_size": compiled.config["prefill_chunk_size"],
    }
    sides: dict[str, Side] = {OURS: stack.enter_context(opened(OURS, options))}
    if llama_cpp.NAME in wanted.against:
        bench = llama_cpp.find(wanted.bench)
        for form, file in subject.files.items():
            sides[f"{llama_cpp.NAME} {form}"] = llama_cpp.LlamaCpp(bench, file, threads, facts=facts)
    if openvino.NAME in wanted.against:
        given = {"gguf": str(subject.files[_Q4_0]), "threads": threads, "vocabulary": _vocabulary(compiled)}
        for activations in openvino.ACTIVATIONS:
            side = opened(openvino.NAME, {**given, "activations": activations})
            sides[f"{openvino.NAME} {_Q4_0}, {activations}"] = stack.enter_context(side)
    return sides


def _vocabulary(compiled: CompiledModel) -> int:
    inner = cast("Mapping[str, object]", compiled.config["model_config"])
    return int(str(inner["vocab_size"]))
