"""How sure an answer must be to stay with the weak model, by the type of its question."""

from __future__ import annotations

from edge_router.questions.question import Choice, Question, YesNo
from edge_router.records import dataclass

NONE_STAYS = 2.0  # no confidence reaches that


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least confidence of each type, 0..1 or `NONE_STAYS`; None where nothing is known: then all stay."""

    yes_no: float | None = None
    choice: float | None = None
    scale: float | None = None

    def of(self, question: Question) -> float | None:
        if isinstance(question, YesNo):
            return self.yes_no
        return self.choice if isinstance(question, Choice) else self.scale
