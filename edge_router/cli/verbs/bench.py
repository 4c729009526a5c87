"""`edge-router bench`: how fast it is here, alone or beside another program on the same weights."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli import output
from edge_router.cli.building import make_ready
from edge_router.cli.hush import hushed
from edge_router.cli.session import Session
from edge_router.cli.verbs.bench_memory import memory

if TYPE_CHECKING:
    from edge_router.bench.router import Latency, RouterBench
    from edge_router.bench.weak import Measured, WeakBench
    from edge_router.config import Config
    from edge_router.engines.webgpu.profile import Profile

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


app.command()(memory)


@app.callback()
def bench() -> None:
    """Measure what runs on this machine."""


@app.command()
def weak(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Another one than the configured model."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="llama.cpp, on the same weights and threads; or another format."),
    ] = None,
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
    from edge_router.bench.weak import ROUNDS, SHORT, USUAL, bench_weak

    with hushed():
        found = bench_weak(
            config,
            session.paths,
            against=against,
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


def _three(value: Measured) -> tuple[str, str, str]:
    return f"{value.median:.0f}", f"{value.low:.0f}", f"{value.high:.0f}"


@app.command()
def router(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Option("--router", metavar="NAME", help="Another one than the configured router.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where it runs: cpu, cuda, coreml, webgpu or auto.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A sample: .txt with a prompt per line, .jsonl, .csv or .parquet."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """How long a decision takes: text in, decision out, one thread.

    Without --prompts, over built-in prompts of every length.
    """
    session = Session(ctx, json=json)
    config = session.config(router__name=name, router__provider=provider)
    from edge_router.bench.router import bench_router
    from edge_router.labels.reading import read_prompts

    texts = read_prompts(prompts) if prompts else ()
    with closing(session.loaded(config)) as models:
        found = bench_router(models.router(None), texts, session.progress)
    if json:
        output.write_json(found.to_dict())
        return
    output.write(f"{found.router} on {found.provider}, {config.router.threads} thread(s)\n")
    columns = ("", "n", "p50 ms", "p95 ms", "p99 ms")
    output.table(columns, _router_rows(found), right=columns[1:])


def _router_rows(found: RouterBench) -> list[tuple[str, ...]]:
    parts: list[tuple[str, Latency | None]] = [("text to decision", found.whole)]
    parts += [("making the input", found.inputs), ("running the graph", found.graph)]
    parts += [(f"up to {upper} characters", latency) for upper, latency in found.by_length]
    return [
        (name, str(part.n), *(f"{value:.3f}" for value in (part.p50, part.p95, part.p99)))
        for name, part in parts
        if part is not None
    ]
