"""How far the weak model can be relied on: in answers, answers to typed questions and calls of tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Unpack

from edge_router.chat.message import Message
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.control.pool import Pool
from edge_router.engines.base import Engine
from edge_router.errors import CannotCalibrate, InvalidInput
from edge_router.labelling import labelled_questions as typed
from edge_router.labelling import tool_calling
from edge_router.labelling.pairs import read_tasks
from edge_router.labelling.tool_cases import cases
from edge_router.routing.confidence.asking import LONGEST, TOKENS, ConfidenceTask
from edge_router.routing.confidence.calibrating import Calibrated, calibrate
from edge_router.routing.confidence.known_questions import questions
from edge_router.routing.thresholds.question_bounds import MeasuredBounds, keep
from edge_router.store import tool_skill
from edge_router.store.tool_skill import Skill
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress

QUESTIONS, HELD_BACK, CASES = 660, 8, 80
MOST_WRONG = 0.05  # of the answers that stay
_OWN = 256  # tokens of an answer to a question of the user's


def calibrate_confidence(
    strong_share: float,
    prompts: Path | str | None = None,
    config: Config | None = None,
    *,
    answers: str = "answer",
    count: int = QUESTIONS,
    tokens: int = HELD_BACK,
    paths: Paths | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SettingArguments],
) -> Calibrated:
    """`weak.min_confidence` by which `strong_share` of the weak model's answers would be escalated.

    It answers `count` questions that are made up, or those of the file `prompts` whose right answers are in
    the column `answers`; `tokens` (0 to 16) of each answer are looked at. What tells right from wrong is kept
    with its weights; what was answered is not asked again. The model is built first where it is not. Raises
    `InvalidInput` for too few right or wrong answers, `InvalidData`, what building and answering raise.
    """
    config, paths = configured(config, settings), paths or Paths.default()
    progress = progress or SilentProgress()
    if not 0 <= tokens <= TOKENS:
        raise InvalidInput(f"tokens can be {TOKENS} at most")
    tasks, longest = confidence_tasks(prompts, answers, count)
    with closing(Pool(config, paths=paths, progress=progress)) as pool:
        return calibrate(
            pool.weak(),
            pool.router(None),
            tasks,
            paths,
            strong_share=strong_share,
            tokens=tokens,
            longest=longest,
            progress=progress,
        )


def confidence_tasks(
    prompts: Path | str | None, answers: str, count: int
) -> tuple[Sequence[ConfidenceTask], int]:
    """The questions with their right answers, and how many tokens an answer may have."""
    if prompts is None:
        return [ConfidenceTask.of(question) for question in questions(count)], LONGEST
    found = read_tasks(Path(prompts), "exact", answers)
    return [ConfidenceTask((Message("user", task.prompt),), task.known) for task in found], _OWN


def calibrate_questions(
    labelled: Path | str | Sequence[typed.LabelledQuestions],
    config: Config | None = None,
    *,
    max_error: float = MOST_WRONG,
    paths: Paths | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SettingArguments],
) -> MeasuredBounds:
    """How sure the weak model must be of typed questions for `max_error` of what stays to be wrong at most.

    `labelled`: a file (.jsonl) of states, questions and right answers, or what `read_labelled` made of one.
    What is found, by type, is kept with the model's weights and counts from then on. Raises `InvalidLabels`,
    `CannotCalibrate` for a model that was not built here or answers none, what building and answering raise.
    """
    paths, progress = paths or Paths.default(), progress or SilentProgress()
    read = typed.read_labelled(Path(labelled)) if isinstance(labelled, Path | str) else labelled
    with _weak(configured(config, settings), paths, progress) as (engine, weights):
        if not engine.capabilities.decides:
            raise CannotCalibrate(engine.model_id, "it answers no typed questions")
        seen = list(typed.measure(engine, read, progress))
        found = MeasuredBounds.of(engine.model_id, seen, max_error)
        keep(found, paths, weights)
    return found


def calibrate_tools(
    config: Config | None = None,
    *,
    count: int = CASES,
    paths: Paths | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SettingArguments],
) -> Skill:
    """Whether the weak model calls tools well enough to be asked to: its right calls in `count` cases.

    What is found is kept with its weights: a model that has `passed` is asked from then on. Raises
    `CannotCalibrate` for one that was not built here or has not learned to call any, what building and
    answering raise.
    """
    paths, progress = paths or Paths.default(), progress or SilentProgress()
    with _weak(configured(config, settings), paths, progress) as (engine, weights):
        if not engine.capabilities.learned_tools:
            reason = "its chat template tells of no tools, so they are left to the strong model"
            raise CannotCalibrate(engine.model_id, reason)
        found = tool_calling.measure(engine, cases(count), progress)
        tool_skill.keep(found, paths, weights)
    return found


@contextmanager
def _weak(config: Config, paths: Paths, progress: Progress) -> Iterator[tuple[Engine, str]]:
    """The weak model and the key of its weights. Raises `CannotCalibrate` where they have none."""
    with closing(Pool(config, paths=paths, progress=progress)) as pool:
        engine = pool.weak()
        weights = engine.capabilities.weights
        if weights is None:
            raise CannotCalibrate(engine.model_id, "only a model that was built here can be")
        yield engine, weights
