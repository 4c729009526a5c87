"""What each runtime takes beside the model itself. Bytes, and where each figure is from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge_router.errors import UnknownName
from edge_router.records import dataclass

MIB = 1 << 20
PAGE = 16  # tokens of one page of the KV cache; MLC and TVM fix it


@dataclass(frozen=True, slots=True)
class Backend:
    """`own_memory`: the device has memory of its own, so that process, router and files don't count.

    `context` is taken before anything is loaded: by the driver on a GPU, by Python and its libraries else.
    `granularity`: what an allocation is rounded up to. `index_integers`: of the arrays with which attention
    finds its pages, where the runtime reserves a fixed number; None where they follow the sizes.
    `mlc`: MLC's engine, which has buffers of its own. `windows`: can forget tokens beyond a sliding window,
    if a model is compiled for that; `forgets`: always does, where all layers have one.
    `program`: through WebGPU, see `vram.programs`. `guesses`: checks several tokens of an answer at once.
    `rounds`: keeps keys and values in eight bits where that is asked.
    `margin`: thousandths of all that is counted, for what is not; more where nothing could be measured yet.
    """

    name: str
    own_memory: bool
    context: int
    granularity: int
    index_integers: int | None = None
    mlc: bool = False
    windows: bool = False
    forgets: bool = False
    margin: int = 30
    program: bool = False
    guesses: bool = False
    rounds: bool = False


# TVM 0.27, src/runtime/vm/attn_utils.h, CachedPagedKVCacheAuxDataManager. On a processor the same is reserved
# but only the part that is used is ever touched, so it takes no memory.
_TVM_INDEX = 32 * MIB

_BACKENDS = (
    # Measured on Linux: CPython 3.11 with numpy, tokenizers, TVM's runtime and its loader of compiled code.
    Backend(
        "cpu",
        own_memory=False,
        context=86 * MIB,
        granularity=4096,
        margin=20,
        forgets=True,
        guesses=True,
        rounds=True,
    ),
    # A CUDA context with the modules of one library: not measured here; what is usually seen, rounded up.
    Backend("cuda", own_memory=True, context=512 * MIB, granularity=2 * MIB, index_integers=_TVM_INDEX),
    Backend(
        "metal",
        own_memory=False,
        context=128 * MIB,
        granularity=16384,
        program=True,
        forgets=True,
        rounds=True,
    ),
    Backend(
        "vulkan",
        own_memory=True,
        context=256 * MIB,
        granularity=65536,
        program=True,
        forgets=True,
        rounds=True,
    ),
    Backend(
        "d3d12",
        own_memory=True,
        context=256 * MIB,
        granularity=65536,
        program=True,
        forgets=True,
        rounds=True,
    ),
    Backend(
        "mlc",
        own_memory=True,
        context=512 * MIB,
        granularity=2 * MIB,
        index_integers=_TVM_INDEX,
        mlc=True,
        windows=True,
    ),
)
BACKENDS: Mapping[str, Backend] = MappingProxyType({backend.name: backend for backend in _BACKENDS})


def backend(name: str) -> Backend:
    """Raises `UnknownName`."""
    if name not in BACKENDS:
        raise UnknownName("device", name, tuple(BACKENDS))
    return BACKENDS[name]
