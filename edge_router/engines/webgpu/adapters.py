"""The GPUs that WebGPU can drive here, and which of them to take."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from edge_router.errors import EngineUnavailable, MissingExtra
from edge_router.records import dataclass

ENGINE = "webgpu"
Kind = Literal["discrete", "integrated", "virtual", "unknown", "software"]

_KINDS: dict[str, Kind] = {
    "DiscreteGPU": "discrete",
    "IntegratedGPU": "integrated",
    "VirtualGPU": "virtual",
    "CPU": "software",
}
_ORDER: tuple[Kind, ...] = ("discrete", "integrated", "virtual", "unknown", "software")
_BACKENDS = {"Vulkan": "vulkan", "Metal": "metal", "D3D12": "d3d12"}
# D3D12 comes last: its shader compiler takes many times as long as the others.
_BACKEND_ORDER = ("metal", "vulkan", "d3d12")


@dataclass(frozen=True, slots=True)
class Adapter:
    """One GPU through one of the system's interfaces. `limits` has WebGPU's names; `handle` is wgpu's own."""

    name: str
    kind: Kind
    backend: str  # "vulkan", "metal" or "d3d12"
    driver: str
    features: frozenset[str]
    limits: dict[str, int]
    ids: tuple[int, int]  # of the maker and the device
    handle: Any

    @property
    def has_float16(self) -> bool:
        """Whether it can compute with such numbers; it can read them in any case."""
        return "shader-f16" in self.features

    @property
    def largest_binding(self) -> int:
        """Bytes of one buffer that a shader can see."""
        return min(self.limits["max-storage-buffer-binding-size"], self.limits["max-buffer-size"])

    def __str__(self) -> str:
        software = ", in software" if self.kind == "software" else ""
        return f"{self.name} ({self.backend}{software})"


def adapters() -> tuple[Adapter, ...]:
    """The best first. Raises `MissingExtra` without wgpu, `EngineUnavailable` where it cannot be loaded."""
    found = [_adapter(handle) for handle in _enumerate()]
    known = [adapter for adapter in found if adapter.backend in _BACKEND_ORDER]
    return tuple(
        sorted(known, key=lambda item: (_ORDER.index(item.kind), _BACKEND_ORDER.index(item.backend)))
    )


def choose(device: str, found: Sequence[Adapter]) -> Adapter:
    """For `weak.device`: "auto" is the best GPU, a backend's name the best there, "cpu" one in software.

    "vulkan:1" is the second. A backend that was asked for by name may be served in software; "auto" never is.
    Raises `EngineUnavailable`.
    """
    name, _, number = device.partition(":")
    if name == "auto":
        fitting = [adapter for adapter in found if adapter.kind != "software"]
    elif name == "cpu":
        fitting = [adapter for adapter in found if adapter.kind == "software"]
    else:
        fitting = [adapter for adapter in found if adapter.backend == name]
    index = int(number) if number.isascii() and number.isdigit() else 0
    if index >= len(fitting):
        others = f"; there is {', '.join(map(str, found))}" if found else ""
        wanted = {"auto": "GPU", "cpu": "adapter in software"}.get(name, f"{device} adapter")
        raise EngineUnavailable(ENGINE, f"there is no {wanted} here{others}")
    return fitting[index]


def _enumerate() -> list[Any]:
    try:
        import wgpu
    except ImportError as error:
        raise MissingExtra("wgpu", "webgpu", "running the model on a GPU through WebGPU") from error
    try:
        with _runtime_directory():
            return list(wgpu.gpu.enumerate_adapters_sync())
    except (RuntimeError, OSError) as error:
        raise EngineUnavailable(ENGINE, f"its library could not be started: {error}") from error


@contextmanager
def _runtime_directory() -> Iterator[None]:
    """Mesa complains on stderr where no desktop session has set it; nothing is written there."""
    name = "XDG_RUNTIME_DIR"
    if name in os.environ or os.name != "posix":
        yield
        return
    os.environ[name] = tempfile.gettempdir()
    try:
        yield
    finally:
        del os.environ[name]


def _adapter(handle: Any) -> Adapter:
    info = handle.info
    return Adapter(
        name=str(info["device"]),
        kind=_KINDS.get(str(info["adapter_type"]), "unknown"),
        backend=_BACKENDS.get(str(info["backend_type"]), str(info["backend_type"]).lower()),
        driver=str(info["description"]),
        features=frozenset(handle.features),
        limits={str(name): int(value) for name, value in handle.limits.items()},
        ids=(int(info.get("vendor_id", 0)), int(info.get("device_id", 0))),
        handle=handle,
    )
