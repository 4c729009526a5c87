"""What was found: tables with the least favourable ratio first, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_router.bench.peers.cases import BenchCase
from edge_router.bench.peers.machine import BenchMachine
from edge_router.bench.peers.rounds import Speeds
from edge_router.bench.weak_results import Comparison, MedianRange, Speed, WeakBench


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is ours over the best of the others, formed round by round. `limit`: tokens per second that the
    memory could be read for, of decoding."""

    case: BenchCase
    threads: int
    ours: MedianRange
    others: Mapping[str, MedianRange]
    best: str
    ratio: MedianRange
    limit: float | None = None

    @property
    def memory_share(self) -> float | None:
        return None if self.limit is None else self.ours.median / self.limit

    def to_dict(self) -> dict[str, object]:
        share = {} if self.memory_share is None else {"memory_share": round(self.memory_share, 3)}
        return {
            "kind": self.case.kind,
            "length": self.case.length,
            "batch": self.case.batch,
            "threads": self.threads,
            "tokens_per_s": _numbers(self.ours, 1),
            "others": {name: _numbers(value, 1) for name, value in self.others.items()},
            "best": self.best,
            "ratio": _numbers(self.ratio, 3),
            **share,
        }


def rows(speeds: Speeds, threads: int, ours: str, limits: Mapping[BenchCase, float]) -> Iterator[Row]:
    """One for each case that ours and at least one other were measured at."""
    for case, taken in speeds.items():
        own = taken.get(ours)
        others = {name: values for name, values in taken.items() if name != ours}
        if own is None or not others:
            continue
        medians = {name: MedianRange.of(values) for name, values in others.items()}
        best = max(medians, key=lambda name: medians[name].median)
        ratio = MedianRange.of([mine / its for mine, its in zip(own, others[best], strict=True)])
        yield Row(case, threads, MedianRange.of(own), medians, best, ratio, limits.get(case))


@dataclass(frozen=True, slots=True)
class ResultTable:
    """One model. `bandwidth`: bytes per second, by the number of threads that read; `notes`: who has no
    number somewhere, and why."""

    model: str
    quantization: str
    random: bool
    rows: Sequence[Row]
    bandwidth: Mapping[int, float]
    notes: Sequence[str] = ()

    @property
    def ordered(self) -> list[Row]:
        return sorted(self.rows, key=lambda row: row.ratio.median)

    def markdown(self) -> str:
        names = list(dict.fromkeys(name for row in self.rows for name in row.others))
        heads = ["tokens/s", "ours", "of the memory", *names, "ratio"]
        lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        for row in self.ordered:
            share = "" if row.memory_share is None else f"{row.memory_share:.0%}"
            others = [_spread(row.others[name]) if name in row.others else "" for name in names]
            told = f"{row.case.name}, {_threads(row.threads)}"
            ratio = f"**{row.ratio.median:.2f}** [{row.ratio.low:.2f}, {row.ratio.high:.2f}]"
            lines.append(f"| {' | '.join([told, _spread(row.ours), share, *others, ratio])} |")
        drawn = ", random weights of its shape" if self.random else ""
        read = ", ".join(f"{value / 1e9:.1f} GB/s by {_threads(n)}" for n, value in self.bandwidth.items())
        notes = "".join(f"\n{note}" for note in self.notes)
        return (
            f"{self.model} ({self.quantization}){drawn}; memory read at {read}\n\n" + "\n".join(lines) + notes
        )


@dataclass(frozen=True, slots=True)
class PeerBench:
    """`alone`: the first model by itself; `programs`: each other program, with what it says of itself."""

    machine: BenchMachine
    rounds: int
    programs: Mapping[str, str]
    tables: Sequence[ResultTable]
    alone: WeakBench | None = None

    @property
    def least(self) -> tuple[ResultTable, Row] | None:
        """The least favourable of all ratios."""
        found = [(table, row) for table in self.tables for row in table.rows]
        return min(found, key=lambda pair: pair[1].ratio.median, default=None)

    def markdown(self) -> str:
        here = self.machine
        lines = []
        if self.least is not None:
            table, row = self.least
            lines.append(
                f"Least favourable: {row.ratio.median:.2f} [{row.ratio.low:.2f}, {row.ratio.high:.2f}] "
                f"of {row.best}, {table.model}, {row.case.name}, {_threads(row.threads)}"
            )
        lines.append(
            f"{here.processor}, {here.instructions}, {here.cores} cores; commit {here.commit}; medians of "
            f"{self.rounds} rounds in turns [lowest, highest], ratios to the best other program"
        )
        lines += [f"{name}: {told}" for name, told in self.programs.items()]
        return "\n".join(lines) + "".join(f"\n\n{table.markdown()}" for table in self.tables)

    def to_dict(self) -> dict[str, object]:
        """The JSON of `bench weak --json`, with the tables beside it."""
        alone = {} if self.alone is None else self.alone.to_dict()
        here = self.machine
        return {
            **alone,
            "machine": {
                "processor": here.processor,
                "instructions": here.instructions,
                "cores": here.cores,
                "commit": here.commit,
            },
            "programs": dict(self.programs),
            "tables": [
                {
                    "model": table.model,
                    "quantization": table.quantization,
                    "random": table.random,
                    "bandwidth": {str(n): round(value) for n, value in table.bandwidth.items()},
                    "rows": [row.to_dict() for row in table.ordered],
                    "notes": list(table.notes),
                }
                for table in self.tables
            ],
        }


def comparisons(found: Sequence[Row], names: Mapping[str, Sequence[str]]) -> dict[str, Comparison]:
    """Each program at the best of its sides, of which `names` tells: one answer at a time."""
    single = [row for row in found if row.case.batch == 1]
    made: dict[str, Comparison] = {}
    for program, sides in names.items():
        prefill: dict[int, tuple[MedianRange, MedianRange]] = {}
        decode: tuple[MedianRange, MedianRange] | None = None
        for row in single:
            if not (own := {name: row.others[name] for name in sides if name in row.others}):
                continue
            best = max(own.values(), key=lambda value: value.median)
            pair = best, MedianRange.of([row.ours.median / best.median])
            if row.case.kind == "prefill":
                prefill[row.case.length] = pair
            elif row.case.length == 0:
                decode = pair
        if decode is not None:
            made[program] = Comparison(
                Speed({n: speed for n, (speed, _) in prefill.items()}, decode[0]),
                {n: ratio for n, (_, ratio) in prefill.items()},
                decode[1],
            )
    return made


def _numbers(value: MedianRange, digits: int) -> dict[str, Any]:
    return {name: round(getattr(value, name), digits) for name in ("median", "low", "high")}


def _spread(value: MedianRange) -> str:
    digits = 0 if value.median >= 100 else 1
    return f"{value.median:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
