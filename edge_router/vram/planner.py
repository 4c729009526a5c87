"""Choosing the windows that fit a budget, and saying what would make a model fit that doesn't.

The order of preference: it fits; the context is as long as was asked; the prefill chunk is as large as was
asked; the quantization comes early in the caller's list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from edge_router.architectures.quantization import quantization
from edge_router.errors import InvalidRequest
from edge_router.records import dataclass
from edge_router.vram.backends import PAGE
from edge_router.vram.estimate import NO_WINDOW, Place, Settings, estimate
from edge_router.vram.products import PARTS, Part, Product, total
from edge_router.vram.shapes import ModelShape

LEAST_CONTEXT = 256  # tokens; a shorter context answers nothing
LEAST_CHUNK = 64  # tokens; smaller ones read the whole model for a handful of tokens
ROOMY_SEQUENCES = 4  # conversations at the same time, where nobody says how many
_LEFT = 2  # a share of the memory that a plan leaves free is for more conversations; the rest is others'
MOST_CHUNK = 2048  # beyond it prefill gets no faster


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """What is asked. Tokens; `quantizations` the best first.

    `kv_caches`: in what keys and values may be kept, the first unless the context would have to be shorter.

    `may_slide`: it can still be compiled for a window. `most_sequences`: so many are taken, beyond what is
    asked, where memory that nothing else asks for has room.
    """

    context_window_size: int
    prefill_chunk_size: int = MOST_CHUNK
    max_sequences: int = 1
    quantizations: tuple[str, ...] = ("q4f16_1",)
    may_slide: bool = True
    most_sequences: int = 1
    kv_caches: tuple[str, ...] = ("auto",)

    @classmethod
    def of(cls, chat: Mapping[str, object], max_sequences: int | None) -> WindowRequest:
        """What an mlc-chat-config asks for; `max_sequences` is the configuration's."""
        context, chunk = (cast(int, chat[name]) for name in ("context_window_size", "prefill_chunk_size"))
        inner = cast("Mapping[str, object]", chat.get("model_config") or {})
        kept = (str(inner.get("kv_cache", "auto")),)
        forms = (str(chat["quantization"]),)
        return cls(context, chunk, quantizations=forms, kv_caches=kept).together(max_sequences)

    def together(self, max_sequences: int | None) -> WindowRequest:
        """For so many conversations at the same time; None: for one, and more where they cost nothing."""
        if max_sequences is None:
            return replace(self, max_sequences=1, most_sequences=ROOMY_SEQUENCES)
        return replace(self, max_sequences=max_sequences, most_sequences=max_sequences)

    def checked(self, shape: ModelShape) -> tuple[WindowRequest, tuple[str, ...]]:
        """What can be had of it, and a line for each thing that was changed or is doubtful."""
        notes = []
        context, chunk = self.context_window_size, self.prefill_chunk_size
        if min(context, chunk, self.max_sequences) < 1 or not self.quantizations:
            raise InvalidRequest("plan", "context, chunk and sequences must be at least 1")
        if context > shape.trained_context:
            notes.append(
                f"a context of {context} is beyond the {shape.trained_context} that the model was trained for"
            )
        if chunk > context:
            notes.append(f"the prefill chunk of {chunk} is cut to the context of {context}")
        return replace(self, prefill_chunk_size=min(chunk, context)), tuple(notes)


@dataclass(frozen=True, slots=True)
class Plan:
    """One choice of settings, and what it takes. Bytes."""

    model: str
    budget: int
    settings: Settings
    products: tuple[Product, ...]
    on_gpu: bool = False

    @property
    def total(self) -> int:
        return total(self.products)

    @property
    def fits(self) -> bool:
        return self.total <= self.budget

    @property
    def lacking(self) -> int:
        """0 when it fits."""
        return max(0, self.total - self.budget)

    def bytes(self, part: Part) -> int:
        return total(self.products, part)

    def to_dict(self) -> dict[str, object]:
        """The JSON contract."""
        settings = self.settings
        parts: dict[str, int] = {part: self.bytes(part) for part in PARTS}
        return {
            "model": self.model,
            "budget_bytes": self.budget,
            "fits": self.fits,
            "context_window_size": settings.context_window_size,
            "prefill_chunk_size": settings.prefill_chunk_size,
            "sliding_window_size": settings.sliding_window_size,
            "quantization": settings.quantization,
            "kv_cache": settings.kv_cache,
            "bytes": parts | {"total": self.total},
        }


@dataclass(frozen=True, slots=True)
class Remedy:
    """Turning one knob alone. `enough`: the model then fits; `frees` is in bytes."""

    knob: str  # a configuration key's name, such as context_window_size
    value: int | str
    frees: int
    enough: bool


class Planner:
    """Plans for one model in one place. Everything is arithmetic: nothing is asked or allocated."""

    def __init__(self, model: str, shape: ModelShape, place: Place, budget: int) -> None:
        self.model, self.shape = model, shape
        self._place, self._budget = place, budget

    @property
    def device(self) -> str:
        return self._place.backend.name

    @property
    def rounds(self) -> bool:
        """Whether keys and values can be kept in eight bits there."""
        return self._place.backend.rounds

    def at(self, settings: Settings) -> Plan:
        """These settings, whether they fit or not. Raises `UnknownName`."""
        shape, window = self.shape, self.shape.window
        if self._place.backend.forgets and shape.whole_window and window is not None:
            slides = window < settings.context_window_size
            settings = replace(settings, sliding_window_size=window if slides else NO_WINDOW)
        elif settings.sliding_window_size != NO_WINDOW:  # a window that is given to every layer
            shape = shape.sliding(settings.sliding_window_size, settings.attention_sink_size)
        form = quantization(settings.quantization)
        products = estimate(shape, form, settings, self._place)
        return Plan(self.model, self._budget, settings, products, on_gpu=self._place.backend.name != "cpu")

    def asked(self, wish: WindowRequest) -> Plan:
        """Exactly what is asked, in the first of the quantizations."""
        return self.at(
            _settings(wish, wish.quantizations[0], wish.context_window_size, wish.prefill_chunk_size)
        )

    def best(self, wish: WindowRequest) -> Plan | None:
        """The best plan that fits; None when even the shortest context does not."""
        found = [plan for name in wish.quantizations for plan in self._candidates(wish, name)]
        if not found:
            return None
        # max() keeps the first of equals, which is the earliest quantization.
        return max(found, key=lambda plan: _merit(plan.settings))

    def batched(self, plan: Plan, wish: WindowRequest) -> Plan:
        """`plan` for as many conversations as cost neither its windows nor memory that others may want."""
        spare = (plan.budget - plan.total) // _LEFT
        for sequences in range(wish.most_sequences, plan.settings.max_sequences, -1):
            more = self.at(replace(plan.settings, max_sequences=sequences))
            if more.total - plan.total <= spare:
                return more
        return plan

    def largest_context(self, wish: WindowRequest) -> int:
        """The longest context that fits, at most what the model was trained for; 0 where none does.

        Keys and values are kept as the best plan for what is asked has them.
        """
        shown = self.best(wish)
        kept = (shown.settings.kv_cache,) if shown else wish.kv_caches
        plan = self.best(replace(wish, context_window_size=self.shape.trained_context, kv_caches=kept))
        return plan.settings.context_window_size if plan else 0

    def smallest_budget(self, wish: WindowRequest) -> int:
        """Bytes with which the asked context fits, with the least chunk and the smallest quantization."""
        chunk = min(LEAST_CHUNK, wish.prefill_chunk_size)
        return min(
            self.at(_settings(wish, name, wish.context_window_size, chunk, kept)).total
            for name in wish.quantizations
            for kept in wish.kv_caches
        )

    def remedies(self, wish: WindowRequest, others: Sequence[str] = ()) -> tuple[Remedy, ...]:
        """What each knob would do for what is asked, those that are enough first. `others`: quantizations."""
        asked = self.asked(wish)
        if asked.fits:
            return ()
        found = []
        rounded: list[tuple[int | str, Settings]]
        rounded = [(kept, replace(asked.settings, kv_cache=kept)) for kept in wish.kv_caches[1:]]
        for knob, values in (("kv_cache", rounded), *self._knobs(asked.settings, others)):
            plans = [(value, self.at(settings)) for value, settings in values]
            if plans:
                value, plan = next(((v, p) for v, p in plans if p.fits), plans[-1])
                found.append(Remedy(knob, value, asked.total - plan.total, plan.fits))
        return tuple(sorted((item for item in found if item.frees > 0), key=lambda item: not item.enough))

    def _candidates(self, wish: WindowRequest, form: str) -> Iterator[Plan]:
        """The best with full attention; coarser keys and values, then a window, where these reach further."""
        full = None
        for kept in wish.kv_caches:
            full = self._fitted(partial(_settings, wish, form, kept=kept), wish)
            if full is not None:
                yield full
                if full.settings.context_window_size == wish.context_window_size:
                    return
        if full is None or full.settings.context_window_size < wish.context_window_size:
            slid = self._sliding(wish, form)
            if slid is not None:
                yield slid

    def _sliding(self, wish: WindowRequest, form: str) -> Plan | None:
        window = self.shape.window
        if window is None or not self.shape.whole_window or not self._place.backend.windows:
            return None
        if not wish.may_slide or window >= wish.context_window_size:
            return None
        return self._fitted(
            lambda context, chunk: replace(_settings(wish, form, context, chunk), sliding_window_size=window),
            wish,
        )

    def _fitted(self, settings: Callable[[int, int], Settings], wish: WindowRequest) -> Plan | None:
        """The longest context first, then the largest chunk. What fits is monotonic in both."""
        least_chunk = min(LEAST_CHUNK, wish.prefill_chunk_size)
        context = self._longest(lambda tokens: settings(tokens, min(least_chunk, tokens)), wish)
        if context is None:
            return None
        for chunk in _chunks(min(wish.prefill_chunk_size, context)):
            plan = self.at(settings(context, chunk))
            if plan.fits:
                return plan
        return self.at(settings(context, min(least_chunk, context)))

    def _longest(self, settings: Callable[[int], Settings], wish: WindowRequest) -> int | None:
        most = wish.context_window_size
        if self.at(settings(most)).fits:
            return most
        low, high = LEAST_CONTEXT // PAGE, most // PAGE + 1  # in pages: what fits and what does not
        if most <= LEAST_CONTEXT or not self.at(settings(low * PAGE)).fits:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self.at(settings(middle * PAGE)).fits:
                low = middle
            else:
                high = middle
        return low * PAGE

    def _knobs(
        self, settings: Settings, others: Sequence[str]
    ) -> Iterator[tuple[str, list[tuple[int | str, Settings]]]]:
        """Each knob's values from mild to severe, with the settings they lead to."""
        contexts = list(_halves(settings.context_window_size, LEAST_CONTEXT))
        yield (
            "context_window_size",
            [
                (
                    n,
                    replace(
                        settings,
                        context_window_size=n,
                        prefill_chunk_size=min(n, settings.prefill_chunk_size),
                    ),
                )
                for n in contexts
            ],
        )
        chunks = list(_halves(settings.prefill_chunk_size, LEAST_CHUNK))
        yield "prefill_chunk_size", [(n, replace(settings, prefill_chunk_size=n)) for n in chunks]
        fewer = range(settings.max_sequences - 1, 0, -1)
        yield "max_sequences", [(n, replace(settings, max_sequences=n)) for n in fewer]
        yield "quantization", [(name, replace(settings, quantization=name)) for name in others]
        windows = self._windows(settings)
        yield "sliding_window_size", [(n, replace(settings, sliding_window_size=n)) for n in windows]

    def _windows(self, settings: Settings) -> tuple[int, ...]:
        """That every layer may be given: its own, or any where none has one."""
        backend, window = self._place.backend, self.shape.window
        if window is not None:
            return (window,) if self.shape.whole_window and backend.windows else ()
        return tuple(_halves(settings.context_window_size, LEAST_CONTEXT)) if backend.forgets else ()


def _settings(wish: WindowRequest, form: str, context: int, chunk: int, kept: str | None = None) -> Settings:
    return Settings(form, context, chunk, wish.max_sequences, kv_cache=kept or wish.kv_caches[0])


def _merit(settings: Settings) -> tuple[int, int, bool]:
    """Full attention before a window that reaches as far, but a larger chunk before either."""
    whole = settings.sliding_window_size == NO_WINDOW
    return settings.context_window_size, settings.prefill_chunk_size, whole


def _chunks(most: int) -> Iterator[int]:
    """`most`, then the powers of two below it, down to the least."""
    yield most
    power = 1 << (most - 1).bit_length() - 1 if most > 1 else 0
    while power >= LEAST_CHUNK:
        yield power
        power //= 2


def _halves(start: int, least: int) -> Iterator[int]:
    """Powers of two below `start`, down to `least`."""
    return (chunk for chunk in _powers(start) if chunk >= least)


def _powers(start: int) -> Iterator[int]:
    power = 1 << max(0, (start - 1).bit_length() - 1)
    while power >= 1:
        if power < start:
            yield power
        power //= 2
