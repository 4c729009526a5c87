"""A next token out of what a runner hands over: all logits, or the likeliest that it has found itself."""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.engines.local.runner import ChoosingRunner, Logits, TopK
from edge_router.engines.local.sampler import SampledToken, Sampler


def needs_all(samplers: Sequence[Sampler], chooser: ChoosingRunner) -> bool:
    """Whether one of them surely has to see all logits."""
    given = chooser.candidates, chooser.vocab_size
    return any(sampler.needs_all(*given) for sampler in samplers)


def chosen(sampler: Sampler, row: Logits | TopK, number: int, chooser: ChoosingRunner | None) -> SampledToken:
    """From `row`, the one of that number in the runner's last call. Raises `NothingToChooseError`."""
    if not isinstance(row, TopK):
        return sampler.choose(row)
    choice = sampler.choose_among(row)
    if choice is None:
        assert chooser is not None
        choice = sampler.choose(chooser.last_logits()[number])
    return choice
