"""What visits brought back, as models/README.md's tables: `tables.py [FOLDER | --show FOLDER | --check]`.

A folder of results is copied to models/gpu/ under its GPU's and commit's name, and what the file has between the
lines `<!-- gpu -->` and `<!-- /gpu -->` is written anew of all that is there. `--show` prints a folder's tables alone.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.catalog import find_model
from edge_router.vram import Settings
from edge_router.vram.shapes import ModelShape
from edge_router.vram.speed import bytes_per_token

ROOT = Path(__file__).parents[3]
KEPT, PAGE = ROOT / "models/gpu", ROOT / "models/README.md"
MARKED = re.compile(r"(?<=<!-- gpu -->\n).*?(?=<!-- /gpu -->)", re.DOTALL)


# Started for a token, as the emulated GPU counts (tests/compile/gpu/test_gpu_libraries.py holds it to that).
@dataclass(frozen=True, slots=True)
class Launches:
    """`single`: kernels started one by one; `graphs`: CUDA graphs, which hold the other kernels."""

    single: int
    graphs: int = 0

    @property
    def all(self) -> int:
        return self.single + self.graphs


AROUND, EACH = 4, 10  # kernels beside the layers, and of a layer
NORMED = {"qwen3": 1}  # more of a layer
OUTSIDE, EACH_OUTSIDE = 3, 4  # those that stay outside of graphs: the KV cache's own


def launches(architecture: str, layers: int, *, graphs: bool) -> Launches:
    if graphs:
        return Launches(OUTSIDE + EACH_OUTSIDE * layers, layers + 1)
    return Launches(AROUND + (EACH + NORMED.get(architecture, 0)) * layers)


START_US = 2.5  # of one launch; an assumption until it is measured
CARDS = {
    "RTX 4060 8 GB": 272e9,
    "RTX 3060 12 GB": 360e9,
    "H200": 4.3e12,
}  # bytes per second; the last as copies reach
REACHED = 0.8  # of the bandwidth, the aim
PAST = 512  # tokens before the one that is decoded
SHAPES = (
    "SmolLM2-135M-Instruct", "Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct", "Qwen3-4B", "Llama-3.1-8B-Instruct",
)  # fmt: skip
NOT_RUN = "not run"


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--show"]:
        print("\n".join(measured([Path(arguments[1])])))  # noqa: T201
        return
    if arguments == ["--check"]:
        if page() != PAGE.read_text(encoding="utf-8"):
            raise SystemExit("models/README.md is not what .ci/gpu tables writes")
        return
    if arguments:
        keep(Path(arguments[0]))
    PAGE.write_text(page(), encoding="utf-8")


def keep(folder: Path) -> Path:
    """Raises `SystemExit` for what an emulated GPU said."""
    facts = _read(folder / "gpu.json")
    if facts["machine"]["emulated"]:
        raise SystemExit("these results are of an emulated GPU")
    name = _gpu(facts)["name"].replace(" ", "-")
    target = KEPT / f"{name}-{facts['commit']}"
    target.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        shutil.copy(file, target)
    return target


def page() -> str:
    """The file as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    return MARKED.sub(lambda _: section() + "\n", text)


def section() -> str:
    kept = sorted(path for path in KEPT.glob("*") if path.is_dir())
    lines = [
        "## On GPUs, measured",
        "",
        *(measured(kept) if kept else [f"On a real GPU: {NOT_RUN} yet. `.ci/gpu run` is what to run there."]),
        "",
        "## On GPUs, on paper",
        "",
        *paper(),
    ]
    return "\n".join(lines)


# ---- measured ----------------------------------------------------------------------------------------------


def measured(folders: Sequence[Path]) -> list[str]:
    lines: list[str] = []
    for folder in folders:
        facts = _read(folder / "gpu.json")
        gpu, emulated = _gpu(facts), facts["machine"]["emulated"]
        named = "an emulated GPU" if emulated else f"{gpu['name']}, driver {gpu['driver']}"
        lines += [
            f"### {named}, commit {facts['commit']}",
            "",
            *_checks(folder, facts),
            "",
            *_speeds(folder),
            "",
        ]
        lines += [*_memory(folder), "", *_router(folder)]
    return lines


def _gpu(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    found = facts["machine"]["gpus"]
    named = [gpu for gpu in found if gpu["maker"] == "nvidia"] if isinstance(found, list) else []
    return named[0] if named else {"name": "unknown GPU", "driver": "unknown"}


def _checks(folder: Path, facts: Mapping[str, Any]) -> Iterator[str]:
    yield from ("| step | good | ended | s |", "|---|---|---|---|")
    ended: dict[str, list[Mapping[str, Any]]] = {}
    for name, step in facts["steps"].items():
        ended.setdefault(name.split()[0], []).append(step)
    failed = []
    for name in ("kernels", "logits", "speed", "memory", "exhausted", "router", "serving", "vulkan"):
        checks = _checked(folder, name)
        failed += [f"- {name}: {check['name']}{_told(check)}" for check in checks if not check["good"]]
        good = f"{sum(check['good'] for check in checks)} of {len(checks)}" if checks else NOT_RUN
        told = {str(step["ended"]) if step["ended"] else "by itself" for step in ended.get(name, [])}
        seconds = sum(step["seconds"] for step in ended.get(name, []))
        yield f"| {name} | {good} | {', '.join(sorted(told)) or NOT_RUN} | {seconds:.0f} |"
    if failed:
        yield from ("", "Not good:", "", *failed)


def _checked(folder: Path, step: str) -> list[Mapping[str, Any]]:
    """The checks of a step; those of vulkan are in the file of logits, for only eight files come back."""
    found = _read(folder / f"{'logits' if step == 'vulkan' else step}.json").get("checks", [])
    if step not in ("logits", "vulkan"):
        return list(found)
    return [check for check in found if check["name"].endswith("vulkan") == (step == "vulkan")]


def _told(check: Mapping[str, Any]) -> str:
    """Why it is not good, in one line, where that is known."""
    told = str(check.get("error") or check.get("told") or "").strip().splitlines()
    return f": {told[-1][:200]}" if told else ""


def _speeds(folder: Path) -> Iterator[str]:
    figures = _read(folder / "speed.json").get("figures", {})
    yield "| model | decode, tokens/s | share of the bandwidth | with CUDA graphs | share | launches, Python, waiting ms | prefill, tokens/s |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in figures.items():
        cells = [name]
        for library in ("cuda", "graphs"):
            decode = found.get(f"{library}_decode")
            cells += (
                [NOT_RUN] * 2 if decode is None else [_rate(decode), str(found[f"{library}_bandwidth_share"])]
            )
        last = found.get("graphs_decode") or found.get("cuda_decode")
        parts = ("launches_ms", "python_ms", "waiting_ms")
        cells.append(NOT_RUN if last is None else ", ".join(str(last[part]) for part in parts))
        prefill = found.get("cuda_prefill_tokens_per_s", {})
        cells.append(", ".join(f"{length}: {rate:.0f}" for length, rate in prefill.items()) or NOT_RUN)
        yield f"| {' | '.join(cells)} |"
    if not figures:
        yield f"| {' | '.join([NOT_RUN] * 7)} |"


def _rate(decode: Mapping[str, float]) -> str:
    return f"{1000 / decode['token_ms']:.0f}"


def _memory(folder: Path) -> Iterator[str]:
    checks = _read(folder / "memory.json").get("checks", [])
    yield from ("| memory | planned MiB | taken MiB | context |", "|---|---|---|---|")
    for check in checks:
        if "planned" in check:
            taken = max(check["taken"].values()) >> 20
            yield f"| {check['name']} | {check['planned'] >> 20} | {taken} | {check['context']} |"
        else:
            yield f"| {check['name']} | {check.get('refused') or check.get('error', '')[:80]} | | |"
    if not checks:
        yield f"| {' | '.join([NOT_RUN] * 4)} |"


def _router(folder: Path) -> Iterator[str]:
    figures = _read(folder / "router.json").get("figures", {})
    yield from ("| router bert | runs on | ms |", "|---|---|---|")
    for provider in ("cpu", "cuda"):
        found = figures.get(provider, {})
        yield f"| {provider} | {found.get('runs_on') or found.get('not_run', NOT_RUN)} | {found.get('ms', NOT_RUN)} |"


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


# ---- on paper ----------------------------------------------------------------------------------------------


def paper() -> Iterator[str]:
    yield (
        f"Decoding reads all weights and {PAST} tokens of keys and values once; a launch is taken for {START_US} us. "
        f"Tokens per second: what {REACHED:.0%} of the bandwidth allows, or the launches where they allow less "
        "(marked L). Launches are counted on the emulated GPU, kernels one by one or with CUDA graphs, of which "
        "each counts as one. What a GPU loses between two kernels is not counted: everything here is computed, nothing measured."
    )
    yield ""
    cards = " | ".join(f"{name}, graphs" for name in CARDS)
    yield f"| q4f16_1 | MB read | launches | with graphs | {' | '.join(CARDS)} | {cards} |"
    yield "|---" * (4 + 2 * len(CARDS)) + "|"
    for name in SHAPES:
        card = find_model(name)
        shape = ModelShape.of(card.config, name)
        read = bytes_per_token(shape, Settings("q4f16_1", 2 * PAST, 512))
        both = [
            launches(str(card.config["model_type"]), shape.layers, graphs=graphs) for graphs in (False, True)
        ]
        rates = [_paper_rate(read, one, speed) for one in both for speed in CARDS.values()]
        yield f"| {name} | {read / 1e6:.0f} | {both[0].all} | {both[1].all} | {' | '.join(rates)} |"


def _paper_rate(read: int, started: Launches, bandwidth: float) -> str:
    memory, starting = read / bandwidth / REACHED, started.all * START_US / 1e6
    return f"{1 / max(memory, starting):.0f}{' L' if starting > memory else ''}"


if __name__ == "__main__":
    main()
