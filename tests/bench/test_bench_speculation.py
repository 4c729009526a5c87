"""`bench speculation`: what is measured of two engines, and how it is told."""

from __future__ import annotations

from edge_router import ScriptedEngine
from edge_router.bench.speculation import SpeculationBench, measured
from edge_router.chat.events import EngineTimings, Finished, TextDelta, Usage


def engine(seconds: float, text: str = "the same") -> ScriptedEngine:
    """One whose tokens take so long; the first question's answer is too short to count."""

    def finished(tokens: int) -> Finished:
        timings = EngineTimings(
            prefill_s=1.0, prefill_tokens=9, decode_s=tokens * seconds, decode_tokens=tokens
        )
        return Finished("stop", usage=Usage(9, tokens + 1), timings=timings)

    return ScriptedEngine(
        default=lambda request: [
            TextDelta(text),
            finished(2 if request.messages[-1].text == "short" else 100),
        ]
    )


def test_both_are_asked_in_turns_and_compared() -> None:
    without, guessing = engine(0.02), engine(0.01)
    found = measured(without, guessing, ["short", "long"], rounds=3)
    assert len(without.calls) == len(guessing.calls) == 2 * 2 * 3
    assert (round(found.ratio.median, 6), found.same) == (2.0, True)
    assert [round(pace) for pace in found.tokens_per_s] == [50, 100]
    told = SpeculationBench("m", {"everyday": found}).to_dict()
    assert told["kinds"] == {
        "everyday": {
            "ratio": {"median": 2.0, "low": 2.0, "high": 2.0},
            "tokens_per_s": [50.0, 100.0],
            "same_text": True,
        }
    }
    assert not measured(without, engine(0.01, "another"), ["long"], rounds=1).same
