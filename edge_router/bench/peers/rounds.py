"""The rounds: every program does a case before the next case begins, so that a busy machine meets all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_router.bench.peers.cases import BenchCase, Side
from edge_router.errors import EdgeRouterError
from edge_router.types import Step

Speeds = dict[BenchCase, dict[str, list[float]]]


def in_turns(
    sides: Mapping[str, Side], cases: Iterable[BenchCase], rounds: int, step: Step, *, ours: str
) -> tuple[Speeds, dict[tuple[str, BenchCase], str]]:
    """Tokens per second of each case and side, round by round; and why a side has none for a case.

    Who is first turns with the rounds, for who comes next may find the processor warm. Raises what `ours`
    raises.
    """
    wanted, found = list(cases), Speeds()
    failed: dict[tuple[str, BenchCase], str] = {}
    for number in range(rounds):
        for case in wanted:
            for name in _turned(list(sides), number):
                if (name, case) in failed:
                    continue
                try:
                    speed = sides[name].speed(case)
                except EdgeRouterError as error:
                    if name == ours:
                        raise
                    failed[name, case] = str(error)
                    found.get(case, {}).pop(name, None)
                    continue
                if speed is not None:
                    found.setdefault(case, {}).setdefault(name, []).append(speed)
            step.advance()
    return found, failed


def _turned(names: list[str], number: int) -> list[str]:
    first = number % len(names)
    return names[first:] + names[:first]
