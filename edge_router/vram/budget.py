"""Where a configured model would run here: the device, how much of it is free, and the budget."""

from __future__ import annotations

import platform
from pathlib import Path

from edge_router.catalog import ModelCard, encoder_card, router_cards
from edge_router.config.router import RouterConfig
from edge_router.config.settings import Config
from edge_router.device import Gpu, Host, gpus, host
from edge_router.errors import ConfigError
from edge_router.parsing.sizes import Share, in_bytes, parse_size
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.vram.backends import Backend, backend
from edge_router.vram.estimate import Place
from edge_router.vram.planner import WindowRequest

DEFAULT_BUDGET = Share(0.9)  # of what is free; other programs need some, too

_X86 = ("x86_64", "amd64")

# Of the router's session: its graph is held twice (as read and as prepared), beside onnxruntime's own code.
_ROUTER_COPIES, _ROUTER_CODE = 2, 16 << 20
# On a GPU: its int8 graph as float32, and a device of its own. Not measured here; rounded up.
_ROUTER_WIDENED, _ROUTER_DEVICE = 4, 64 << 20


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes. `free` and `whole` are None for a device that is not in this machine.

    `is_share`: the budget was given as a share of what is free. `whole`: of the device, whoever uses it.
    """

    place: Place
    budget: int
    free: int | None = None
    is_share: bool = False
    whole: int | None = None

    @property
    def device(self) -> str:
        return self.place.backend.name


def memory_budget_for(config: Config, paths: Paths, *, found: Host | None = None) -> MemoryBudget:
    """The room that the configuration leaves: `weak.device` and `weak.vram_budget`.

    Raises `ConfigError` for a share of a device whose free memory is not known, `UnknownName`.
    """
    here = found or host(paths.artifacts / "host.json")
    runtime = backend(device_of(config))
    free, whole = _memory(runtime, here)
    text = config.weak.vram_budget
    budget = DEFAULT_BUDGET if text is None else parse_size(text, source=config.origin("weak.vram_budget"))
    if free is None and isinstance(budget, Share):
        what = "the GPU of the engine mlc" if runtime.mlc else runtime.name
        reason = f"how much memory of {what} is free cannot be told here"
        raise ConfigError("weak.vram_budget", text, reason, config.origin("weak.vram_budget"))
    place = Place(
        runtime,
        threads=config.weak.threads or here.physical_cores,
        integers=here.machine.lower() in _X86,
        router=router_bytes(config.router, own_memory=runtime.own_memory),
    )
    return MemoryBudget(place, in_bytes(budget, free or 0), free, isinstance(budget, Share), whole)


def device_of(config: Config) -> str:
    """What the engine takes `auto` for; see `engines.resolved`, which chooses the engine."""
    if config.weak.engine == "mlc":
        return "mlc"
    device = config.weak.device.partition(":")[0]  # which of several GPUs makes no difference here
    if device != "auto":
        return device
    if config.weak.engine == "webgpu":
        return {"Darwin": "metal", "Windows": "d3d12"}.get(platform.system(), "vulkan")
    return "cpu"


def check_kept_numbers(config: Config) -> None:
    """That keys and values can be kept there as `weak.kv_cache` says. Raises `ConfigError`."""
    asked = config.weak.kv_cache
    if asked != "auto" and not backend(device_of(config)).rounds:
        reason = "only tvm on a processor and webgpu keep keys and values otherwise than auto"
        raise ConfigError("weak.kv_cache", asked, reason, config.origin("weak.kv_cache"))


def window_request_of(config: Config, card: ModelCard) -> WindowRequest:
    """What the configuration asks for; the card's windows where it leaves them open."""
    weak, may_round = config.weak, backend(device_of(config)).rounds
    return WindowRequest(
        weak.context_window_size or card.context_window_size,
        weak.prefill_chunk_size or card.prefill_chunk_size,
        quantizations=(weak.quantization or card.quantization,),
        kv_caches=("auto", "int8") if weak.kv_cache == "auto" and may_round else (weak.kv_cache,),
    ).together(weak.max_sequences)


def router_bytes(router: RouterConfig, *, own_memory: bool) -> int:
    """Of the router's session; 0 for one without a graph, and for one that another package brings.

    Of a GPU with memory of its own only what it takes there, where its provider is not the processor's.
    """
    on_gpu = router.provider != "cpu"
    card = router_cards().get(router.name) if on_gpu or not own_memory else None
    if card is None:
        return 0
    begins = encoder_card(card)
    graphs = [one.directory / one.graph for one in (card, begins) if one is not None]
    size = sum(g.stat().st_size if isinstance(g, Path) else len(g.read_bytes()) for g in graphs)
    there = _ROUTER_WIDENED * size + _ROUTER_DEVICE if on_gpu else 0
    return there if own_memory else _ROUTER_COPIES * size + _ROUTER_CODE + there


def _memory(runtime: Backend, here: Host) -> tuple[int | None, int | None]:
    """What is free and what there is at all; of several GPUs, of the one with most room."""
    if not runtime.own_memory:
        return here.memory_free, here.memory_total
    known = [gpu for gpu in gpus() if _runs(gpu, runtime) and gpu.memory_free is not None]
    best = max(known, key=lambda gpu: gpu.memory_free or 0, default=None)
    return (None, None) if best is None else (best.memory_free, best.memory_total)


def _runs(gpu: Gpu, runtime: Backend) -> bool:
    return gpu.maker == "nvidia" if runtime.name == "cuda" else gpu.maker != "apple"
