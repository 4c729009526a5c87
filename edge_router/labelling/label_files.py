"""Labels of your own prompts, in a file: what both models make of them, for adapting a router."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Unpack

from edge_router.api.client import Controller
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.errors import InvalidInput, StrongNotConfigured
from edge_router.labelling.pairs import (
    ANSWER_TOKENS,
    Labelling,
    LabelOutcome,
    LabelTask,
    label_tasks,
    read_tasks,
)
from edge_router.records import dataclass
from edge_router.routing.labels.judging import Judge
from edge_router.routing.thresholds.prices import Prices
from edge_router.system.paths import Paths
from edge_router.types import Progress


class InvalidLabelling(InvalidInput):
    """What was asked for cannot be done, whatever the prompts are."""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """`output`, where the labels are, and what came about. `priced`: whether prices were known."""

    output: Path
    found: LabelOutcome
    priced: bool

    def to_dict(self) -> dict[str, object]:
        """What `label --json` prints."""
        return {**self.found.to_dict(), "output": str(self.output)}


@dataclass(frozen=True, slots=True)
class LabelRun:
    """What is asked of the models, checked before any of them is loaded."""

    tasks: tuple[LabelTask, ...]
    how: Labelling

    @classmethod
    def of(
        cls,
        prompts: Path,
        judge: Judge,
        config: Config,
        *,
        output: Path | None = None,
        answers: str = "answer",
        budget: float | None = None,
        limit: int | None = None,
        max_tokens: int = ANSWER_TOKENS,
        strong_given: bool = False,
    ) -> LabelRun:
        """`strong_given`: by a program, whatever is configured.

        Raises `InvalidLabelling`, `StrongNotConfigured`, `InvalidData`, `MissingExtra`.
        """
        file, prices = output or prompts.with_suffix(".labels.jsonl"), Prices.highest(config)
        if budget is not None and prices is None:
            raise InvalidLabelling("a budget needs strong.price_in and strong.price_out")
        if not (strong_given or config.has_strong) and config.strong.engine == "openai":
            raise StrongNotConfigured
        if file.suffix.lower() != ".jsonl" or file.absolute() == prompts.absolute():
            raise InvalidLabelling(f"{file} must end in .jsonl and be another file than the prompts")
        tasks = read_tasks(prompts, judge, answers)[:limit]
        return cls(tasks, Labelling(judge, file, prices, budget, max_tokens))

    def done_by(self, controller: Controller, progress: Progress | None = None) -> LabelFile:
        """Raises what `label_tasks` does."""
        found = label_tasks(controller, self.tasks, self.how, progress)
        return LabelFile(self.how.output, found, self.how.prices is not None)


def label(
    prompts: Path | str,
    judge: Judge,
    config: Config | None = None,
    *,
    output: Path | str | None = None,
    answers: str = "answer",
    budget: float | None = None,
    limit: int | None = None,
    max_tokens: int = ANSWER_TOKENS,
    controller: Controller | None = None,
    paths: Paths | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SettingArguments],
) -> LabelFile:
    """Both models' answers to each of `prompts` (a file), judged, with what `train --adapt` needs.

    `judge`: "exact" or "choice", against the column `answers` of right ones, or "strong": it compares both.
    Written into `output` (.jsonl; beside `prompts` without one) as soon as each is there: what is there
    already is not asked again. `budget`: the most money that the whole file may cost. `limit`: only the first
    prompts. `controller`: one of yours, with its settings, which stays open. Raises `InvalidLabelling`,
    `StrongNotConfigured`, `InvalidData`, `StorageError`, what keeps every prompt from being answered.
    """
    config = configured(config if controller is None else controller.config, settings)
    run = LabelRun.of(
        Path(prompts),
        judge,
        config,
        output=None if output is None else Path(output),
        answers=answers,
        budget=budget,
        limit=limit,
        max_tokens=max_tokens,
        strong_given=controller is not None,
    )
    asked = (
        Controller(config, paths=paths, progress=progress) if controller is None else nullcontext(controller)
    )
    with asked as open_controller:
        return run.done_by(open_controller, progress)
