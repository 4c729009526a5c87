"""Who is before whom, while answers wait for each other."""

from __future__ import annotations

import threading

from edge_router.engines.local.scheduling.jobs import GenerationTask
from edge_router.engines.local.scheduling.line import Line


def job() -> GenerationTask:
    # nobody computes it
    return GenerationTask(tokens=[1], sampler=None, sink=None, cancelled=lambda: False)  # type: ignore[arg-type]


def test_the_place_in_the_line() -> None:
    line = Line()
    cancels, jobs = [threading.Event() for _ in range(4)], [job() for _ in range(4)]
    first, second, third = (
        line.standing(cancel, one) for cancel, one in zip(cancels, jobs[:3], strict=False)
    )
    with first:
        with second, third:
            assert [line.ahead(cancel) for cancel in cancels] == [0, 1, 2, None]
            jobs[0].cached_tokens = 0  # it began
            assert [line.ahead(cancel) for cancel in cancels] == [None, 1, 2, None]
            with line.standing(cancels[3], jobs[3]):
                assert line.ahead(cancels[3]) == 3
        assert [line.ahead(cancel) for cancel in cancels] == [None, None, None, None]
