"""The learning curve of adapting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_router.catalog import router_cards
from edge_router.compile.training.curve import learning_curve, sizes_for
from edge_router.errors import InvalidData
from edge_router.routing.labels.rows import Labelled


def traffic(n: int) -> Labelled:
    """The weak model fails on what is asked about rivers."""
    rng = np.random.default_rng(1)
    about = rng.choice(["kings", "rivers", "trains"], n)
    prompts = tuple(f"Tell me about {word} number {i}." for i, word in enumerate(about))
    return Labelled(prompts, np.where(about == "rivers", 0.0, 1.0), np.ones(n), name="mine")


def test_labels_help_where_the_traffic_has_a_pattern() -> None:
    card = router_cards()["static"]
    first, *rest = learning_curve(traffic(240), card, draws=3)
    assert (first.labels, first.spread) == (0, 0.0)
    assert [point.labels for point in rest] == [50, 100]
    assert rest[-1].apgr > first.apgr + 0.05
    assert rest[-1].to_dict() == {
        "labels": 100,
        "apgr": round(rest[-1].apgr, 4),
        "spread": round(rest[-1].spread, 4),
    }
    assert learning_curve(traffic(240), card, draws=3) == (first, *rest)


def test_enough_is_left_to_measure_on() -> None:
    assert sizes_for(99) == () and sizes_for(100) == (50,)
    assert sizes_for(8000)[-1] == 5000 and sizes_for(4000)[-1] == 3000


def test_too_few_prompts_for_a_curve(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="at least 100"):
        learning_curve(traffic(60), router_cards()["static"])
