"""`edge-router bench weak`: how fast the weak model is here, alone or beside another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.cli.chat.building import make_ready
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.stderr_redirect import hushed
from edge_router.cli.verbs.bench_peers import PeerOptions, beside
from edge_router.errors import InvalidInput

if TYPE_CHECKING:
    from edge_router.bench.weak_results import MedianRange, WeakBench
    from edge_router.config.settings import Config
    from edge_router.engines.webgpu.profile import Profile


def weak(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Another one than the configured model."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="llama.cpp, openvino or both, each at its best; or another format."
        ),
    ] = None,
    llama_bench: Annotated[
        Path | None,
        typer.Option(
            "--llama-bench", metavar="FILE", help="llama.cpp's own llama-bench. Default: on the PATH."
        ),
    ] = None,
    sizes: Annotated[
        bool, typer.Option("--sizes", help="Against other programs: also models of 1 to 3 billion weights.")
    ] = False,
    prefill: Annotated[
        str | None, typer.Option(metavar="N,N", help="Against other programs: the prompts' tokens.")
    ] = None,
    depth: Annotated[
        str | None, typer.Option(metavar="N,N", help="... the tokens that lie before an answer.")
    ] = None,
    batch: Annotated[str | None, typer.Option(metavar="N,N", help="... how many at once.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where it runs: cpu, cuda, vulkan, metal or d3d12. Default: as configured."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often to measure; the median counts.")
    ] = None,
    random: Annotated[
        bool,
        typer.Option("--random", help="Random weights of the model's shape: for its speed alone."),
    ] = False,
    short: Annotated[bool, typer.Option("--short", help="Shorter texts, for what is very slow.")] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Instead: the GPU's shaders, also in layouts that are not in use.")
    ] = False,
    decide: Annotated[
        bool,
        typer.Option(
            "--decide", help="Instead: typed questions, beside reading them once and the same as JSON."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """How fast the weak model reads and writes, how soon it answers, how much memory it takes.

    Let the machine do nothing else meanwhile. Ratios are ours over theirs.
    """
    session = Session(ctx, json=json)
    config = session.config(weak__model=model, weak__threads=threads, weak__device=device)
    if not random:
        make_ready(session, config, yes=yes)
    if tune:
        _tune(session, config, json=json)
        return
    if decide:
        _decide(session, config, rounds, json=json)
        return
    from edge_router.bench.weak import ROUNDS, bench_weak
    from edge_router.bench.weak_results import SHORT, USUAL

    formats = [name for name in against or () if name in QUANTIZATIONS]
    if formats and len(against or ()) > 1:
        raise InvalidInput("one other format is compared with at a time, and alone")
    if against and not formats:
        beside(
            session,
            config,
            PeerOptions(
                against, llama_bench, sizes, random, short, (prefill, depth, batch), rounds or ROUNDS
            ),
            json=json,
        )
        return
    with hushed():
        found = bench_weak(
            config,
            session.paths,
            against=formats[0] if formats else None,
            progress=session.progress,
            rounds=rounds or ROUNDS,
            lengths=SHORT if short else USUAL,
            random=random,
        )
    if json:
        output.write_json(found.to_dict())
        return
    processor = found.gpu is None and not config.weak.device.startswith("cuda")
    threads_told = f", {found.threads} threads" if processor else ""
    output.write(f"{found.model} ({found.quantization}) on {found.device}{threads_told}\n")
    others = tuple(found.against)
    columns = ("", "median", "low", "high", *others, *(f"ratio to {name}" for name in others))
    output.table(columns, _rows(found), right=columns[1:])
    if found.gpu is not None:
        output.write("\n")
        output.table(("of a token", "", ""), _gpu_rows(found.gpu), right=("",))


def _tune(session: Session, config: Config, *, json: bool) -> None:
    from edge_router.bench.tune import tune

    adapter, trials = tune(config, session.paths, session.progress)
    if json:
        output.write_json({"adapter": adapter, "trials": [trial.to_dict() for trial in trials]})
        return
    output.write(f"Shaders on {adapter}, of each the fastest layout first; * is in use\n\n")
    rows, last = [], ""
    for trial in trials:
        speed = f"{trial.bytes_per_s / 1e9:.1f}"
        name = "" if trial.shader == last else trial.shader
        rows.append((name, "*" if trial.used else "", trial.layout, f"{1e6 * trial.seconds:.1f}", speed))
        last = trial.shader
    output.table(("shader", "", "layout", "us", "GB/s"), rows, right=("us", "GB/s"))


def _decide(session: Session, config: Config, rounds: int | None, *, json: bool) -> None:
    from edge_router.bench.questions import bench_questions
    from edge_router.bench.weak import ROUNDS

    with hushed():
        found = bench_questions(config, session.paths, progress=session.progress, rounds=rounds or ROUNDS)
    if json:
        output.write_json(found.to_dict())
        return
    told = f"{found.questions} questions of {found.question_tokens} tokens about {found.state_tokens}"
    short = f"one yes or no, {found.short_tokens} tokens"
    output.write(f"{found.model}: {told}\n")
    columns = ("", "median", "low", "high")
    rows = [
        ("read as one prompt, ms", *_three(found.read, 1e3)),
        ("answered, ms", *_three(found.asked, 1e3)),
        ("answered, over reading", *_ratio(found.ratio)),
        ("answered the first time, ms", f"{1e3 * found.first:.0f}", "", ""),
        ("written as JSON, ms", *_three(found.written, 1e3)),
        ("JSON over answered", *_ratio(found.quicker)),
        ("the state known, answered, ms", *_three(found.kept_asked, 1e3)),
        ("the state known, JSON, ms", *_three(found.kept_written, 1e3)),
        ("JSON over answered", *_ratio(found.kept_quicker)),
        (f"{short}, read, ms", *_three(found.short_read, 1e3)),
        (f"{short}, answered, ms", *_three(found.short_asked, 1e3)),
        ("answered, over reading", *_ratio(found.short_ratio)),
    ]
    output.table(columns, rows, right=columns[1:])


def _gpu_rows(gpu: Profile) -> list[tuple[str, str, str]]:
    """What a decoded token costs, and which shaders take it."""
    speed = gpu.bytes_per_s
    rows = [
        ("launches", f"{gpu.launches}", ""),
        ("encoded while the GPU works, ms", f"{gpu.encode_ms:.2f}", ""),
        ("Python that the GPU waits for, ms", f"{gpu.python_ms:.2f}", ""),
    ]
    if gpu.gpu_ms is None or speed is None:
        return [*rows, ("on the GPU", "not told by this adapter", "")]
    rows.append(("on the GPU, ms", f"{gpu.gpu_ms:.2f}", f"{speed / 1e9:.0f} GB/s"))
    rows += [(name, f"{value:.3f}", f"{value / gpu.gpu_ms:.0%}") for name, value in gpu.shaders.items()]
    return rows


def _rows(found: WeakBench) -> list[tuple[str, ...]]:
    others = found.against.values()
    nothing = ("",) * 2 * len(found.against)
    rows = [
        (
            f"prefill of {length}, tokens/s",
            *_three(speed),
            *(f"{other.speed.prefill[length].median:.0f}" for other in others),
            *(f"{other.prefill_ratio[length].median:.2f}" for other in others),
        )
        for length, speed in found.speed.prefill.items()
    ]
    rows.append(
        (
            "decode, tokens/s",
            *_three(found.speed.decode),
            *(f"{other.speed.decode.median:.0f}" for other in others),
            *(f"{other.decode_ratio.median:.2f}" for other in others),
        )
    )
    if found.memory_share is not None:
        rows.append(("of what its memory allows", f"{found.memory_share:.0%}", "", "", *nothing))
    rows.append(("first token after, ms", *_three(found.ttft_ms), *nothing))
    if found.python_ms is not None:
        python = found.python_ms
        spread = (f"{value:.2f}" for value in (python.median, python.low, python.high))
        rows.append(("of a token Python, ms", *spread, *nothing))
    rows.append(("memory at most", output.size(found.peak_bytes), "", "", *nothing))
    return rows


def _three(value: MedianRange, factor: float = 1) -> tuple[str, str, str]:
    return f"{factor * value.median:.0f}", f"{factor * value.low:.0f}", f"{factor * value.high:.0f}"


def _ratio(value: MedianRange) -> tuple[str, str, str]:
    return f"{value.median:.2f}", f"{value.low:.2f}", f"{value.high:.2f}"
