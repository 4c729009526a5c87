"""From how near on two questions count as nearly the same, found on a sample of one's own prompts.

Each prompt is wrapped in ways that change no answer (politeness, case, no mark at its end), and changed in
ways that do (a telling word of another prompt in the place of one of its own, two that swap their places).
The bound lets most wrappings through. Changed ones are kept apart by their words (`similar.telling_words`):
how many of them the vector alone would have taken for the same says what those are needed for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from edge_router.records import dataclass
from edge_router.response_cache.similar import LONGEST, telling_words, tells

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LEAST, MOST = 20, 2_000  # prompts of a sample
RECOGNISED = 0.95  # of the wrapped ones
LISTED = 20

Embed = Callable[[Sequence[str]], "npt.NDArray[np.floating]"]
_WRAPPINGS: tuple[Callable[[str], str], ...] = (
    lambda text: text.lower().rstrip("?.! "),
    lambda text: f"Please {text[:1].lower()}{text[1:]}",
    lambda text: f"Can you tell me: {text}",
    lambda text: f"Hello! {text}",
    lambda text: f"{text} Thanks!",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two prompts of the sample, of which one would get the other's answer."""

    one: str
    other: str
    cosine: float


@dataclass(frozen=True, slots=True)
class SimilarityCalibration:
    """`similarity`: the bound. `wrapped`: the share of wrapped prompts that it recognises; `changed`: of
    those changed, what the vector alone would take for the same. `pairs`: the sample's own."""

    n: int
    similarity: float
    wrapped: float
    changed: float
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, object]:
        return {
            "n": self.n,
            "similarity": self.similarity,
            "wrapped": round(self.wrapped, 4),
            "changed_by_vector_alone": round(self.changed, 4),
            "pairs": [
                {"one": pair.one, "other": pair.other, "cosine": pair.cosine} for pair in self.pairs[:LISTED]
            ],
        }


def usable(prompts: Sequence[str]) -> list[str]:
    """Those that may be compared at all, each once, the last `MOST` of them."""
    found = dict.fromkeys(text for text in prompts if len(text) <= LONGEST and tells(text))
    return list(found)[-MOST:]


def calibrate_similarity(embed: Embed, prompts: Sequence[str], *, seed: int = 0) -> SimilarityCalibration:
    """`prompts`: at least `LEAST` that are `usable`."""
    import numpy as np

    rng = random.Random(seed)
    own = _unit(embed(prompts))
    near: list[float] = []
    for wrap in _WRAPPINGS:
        kept = [n for n, text in enumerate(prompts) if telling_words(wrap(text)) == telling_words(text)]
        if kept:
            vectors = _unit(embed([wrap(prompts[n]) for n in kept]))
            near += [float(value) for value in np.sum(vectors * own[kept], axis=1)]
    changed = [(n, other) for n, text in enumerate(prompts) for other in _changed(text, prompts, rng)]
    apart = np.zeros(1)
    if changed:
        vectors = _unit(embed([other for _, other in changed]))
        apart = np.sum(vectors * own[[n for n, _ in changed]], axis=1)
    bound = max(0.01, np.floor(float(np.quantile(near, 1 - RECOGNISED)) * 1e4) / 1e4)
    return SimilarityCalibration(
        len(prompts),
        float(bound),
        float(np.mean(np.asarray(near) >= bound)),
        float(np.mean(apart >= bound)),
        _pairs(prompts, own, float(bound)),
    )


def _unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    import numpy as np

    found = np.asarray(vectors, np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12), np.float32)


def _changed(text: str, prompts: Sequence[str], rng: random.Random) -> Iterator[str]:
    """`text`, asking for something else."""
    words = re.split(r"(\s+)", text)
    telling = [n for n, word in enumerate(words) if tells(word)]
    other = re.split(r"\s+", rng.choice(prompts).strip())
    strange = [word for word in other if tells(word)]
    made: list[str] = []
    if strange:
        place = rng.choice(telling)
        made.append("".join((*words[:place], rng.choice(strange), *words[place + 1 :])))
    if len(telling) > 1:
        one, two = rng.sample(telling, 2)
        words[one], words[two] = words[two], words[one]
        made.append("".join(words))
    yield from (each for each in made if telling_words(each) != telling_words(text))


def _pairs(prompts: Sequence[str], own: npt.NDArray[np.float32], bound: float) -> tuple[Pair, ...]:
    """The nearest first."""
    same: dict[tuple[str, ...], list[int]] = {}
    for n, text in enumerate(prompts):
        same.setdefault(tuple(telling_words(text)), []).append(n)
    found = [
        Pair(prompts[one], prompts[two], round(float(own[one] @ own[two]), 4))
        for group in same.values()
        for one, two in combinations(group[:100], 2)
    ]
    return tuple(sorted((pair for pair in found if pair.cosine >= bound), key=lambda pair: -pair.cosine))
