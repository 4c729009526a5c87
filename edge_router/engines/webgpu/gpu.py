"""One device, and the only place that knows wgpu's calls. Its exceptions become ours here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.engines.webgpu.adapters import ENGINE, Adapter
from edge_router.errors import EngineUnavailable, GenerationFailed, OutOfMemory
from edge_router.webgpu_program import Shader

Bytes = npt.NDArray[np.uint8]
Grid = tuple[int, int, int]
Step = tuple[Any, Any, Grid]  # pipeline, bind group, workgroups
Copy = tuple[Any, int, Any, int, int]  # from a buffer, offset, to a buffer, offset, bytes

_PIECE = 16 << 20  # bytes; uploads are copied to staging memory, which a fence lets go of
_CLOCK = "timestamp-query"
_LIMITS = (  # what we need more of than WebGPU promises, where the adapter has more
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-compute-workgroups-per-dimension",
)


_NEEDED = {  # what WebGPU promises of every device and our shaders use; some old drivers have less
    "max-compute-invocations-per-workgroup": 256,
    "max-compute-workgroup-size-x": 256,
    "max-compute-workgroup-storage-size": 16384,
    "max-storage-buffers-per-shader-stage": 8,
}


class GpuDevice:
    """A device of `adapter`. Raises `EngineUnavailable`. Use and close it in one thread.

    With `clock` it can measure how long steps take, where the adapter has the feature.
    """

    def __init__(self, adapter: Adapter, *, clock: bool = False) -> None:
        import wgpu

        self.adapter = adapter
        self._wgpu = wgpu
        _check_limits(adapter)
        limits = {name: adapter.limits[name] for name in _LIMITS if name in adapter.limits}
        self.has_clock = clock and _CLOCK in adapter.features
        features = [_CLOCK] if self.has_clock else []
        features += ["shader-f16"] if adapter.has_float16 else []
        with self._errors("start"):
            self._device: Any = adapter.handle.request_device_sync(
                required_features=features, required_limits=limits
            )
        self._queue = self._device.queue
        usage = wgpu.BufferUsage
        self._usages = {
            "storage": usage.STORAGE | usage.COPY_DST | usage.COPY_SRC,
            "uniform": usage.UNIFORM | usage.COPY_DST,
            "landing": usage.MAP_READ | usage.COPY_DST,
        }
        self._record = _fast_recorder() or self._record_plainly
        self._fence = self.buffer(16)
        self._unfenced = 0

    @property
    def largest_binding(self) -> int:
        """Bytes of one buffer that a shader can see."""
        limits = self._device.limits
        return min(int(limits["max-storage-buffer-binding-size"]), int(limits["max-buffer-size"]))

    @property
    def widest_grid(self) -> int:
        return int(self._device.limits["max-compute-workgroups-per-dimension"])

    # ---- buffers -------------------------------------------------------------------------------------------

    def buffer(self, size: int, usage: str = "storage") -> Any:
        """Zeros. Raises `OutOfMemory`."""
        with self._errors("allocate", size):
            return self._device.create_buffer(size=size, usage=self._usages[usage])

    def write(self, buffer: Any, data: npt.NDArray[Any], offset: int = 0) -> None:
        """Whole words; small ones, which come before whatever is submitted next."""
        with self._errors("write"):
            self._queue.write_buffer(buffer, offset, data)

    def upload(self, buffer: Any, data: npt.NDArray[Any], offset: int = 0) -> None:
        """Any amount, without ever holding more than a few MB of it twice; filled up to whole words."""
        flat: Bytes = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        for start in range(0, flat.nbytes, _PIECE):
            piece = flat[start : start + _PIECE]
            if piece.nbytes % 4:
                piece = np.append(piece, np.zeros(-piece.nbytes % 4, np.uint8))
            self.write(buffer, piece, offset + start)
            self._unfenced += piece.nbytes
            if self._unfenced >= _PIECE:
                self.wait()

    def read(self, buffer: Any, size: int, offset: int = 0) -> Bytes:
        """Waits for all that was submitted."""
        with self._errors("read"):
            return np.frombuffer(self._queue.read_buffer(buffer, offset, size), np.uint8)

    def collect(self, landing: Any, size: int) -> Bytes:
        """What commands have copied into a buffer for landing; waits for all that was submitted.

        Less than `read` has to do, which makes such a buffer for itself.
        """
        with self._errors("read"):
            landing.map_sync("READ", 0, size)
            try:
                return np.frombuffer(landing.read_mapped(0, size), np.uint8)
            finally:
                landing.unmap()

    def wait(self) -> None:
        self.read(self._fence, 4)
        self._unfenced = 0

    # ---- shaders -------------------------------------------------------------------------------------------

    def pipeline(self, shader: Shader) -> tuple[Any, Any]:
        """The compiled shader and the layout of its bindings. Raises `EngineUnavailable`."""
        compute = self._wgpu.ShaderStage.COMPUTE
        kinds = ["storage" if writes else "read-only-storage" for writes in shader.writes]
        kinds += ["uniform"] if shader.scalars else []
        entries = [
            {"binding": number, "visibility": compute, "buffer": {"type": kind}}
            for number, kind in enumerate(kinds)
        ]
        with self._errors(f"compile {shader.entry}"):
            layout = self._device.create_bind_group_layout(entries=entries)
            return (
                self._device.create_compute_pipeline(
                    layout=self._device.create_pipeline_layout(bind_group_layouts=[layout]),
                    compute={
                        "module": self._device.create_shader_module(code=shader.source),
                        "entry_point": shader.entry,
                    },
                ),
                layout,
            )

    def bind(self, layout: Any, buffers: Sequence[tuple[Any, int, int]]) -> Any:
        """`buffers`: each with the offset and the size of what is bound."""
        entries = [
            {"binding": number, "resource": {"buffer": buffer, "offset": offset, "size": size}}
            for number, (buffer, offset, size) in enumerate(buffers)
        ]
        with self._errors("bind"):
            return self._device.create_bind_group(layout=layout, entries=entries)

    # ---- work ----------------------------------------------------------------------------------------------

    def encode(self, steps: Sequence[Step], copy: Copy | None = None) -> Any:
        """One after the other: each sees what the ones before it wrote, and so does the copy."""
        with self._errors("encode"):
            encoder = self._device.create_command_encoder()
            compute = encoder.begin_compute_pass()
            self._record(compute, steps)
            compute.end()
            if copy is not None:
                encoder.copy_buffer_to_buffer(*copy)
            return encoder.finish()

    def _record_plainly(self, compute: Any, steps: Sequence[Step]) -> None:
        last = None
        for pipeline, group, grid in steps:
            if pipeline is not last:
                compute.set_pipeline(pipeline)
                last = pipeline
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(*grid)

    def submit(self, commands: Any) -> None:
        with self._errors("submit"):
            self._queue.submit([commands])

    def timed(self, steps: Sequence[Step]) -> npt.NDArray[np.float64]:
        """Seconds that the GPU spent on each step; needs `has_clock`. Each has a pass of its own."""
        usage, size = self._wgpu.BufferUsage, 16 * len(steps)
        with self._errors("measure"):
            queries = self._device.create_query_set(type="timestamp", count=2 * len(steps))
            times = self._device.create_buffer(size=size, usage=usage.QUERY_RESOLVE | usage.COPY_SRC)
            encoder = self._device.create_command_encoder()
            for number, step in enumerate(steps):
                when = {
                    "query_set": queries,
                    "beginning_of_pass_write_index": 2 * number,
                    "end_of_pass_write_index": 2 * number + 1,
                }
                compute = encoder.begin_compute_pass(timestamp_writes=when)
                self._record(compute, [step])
                compute.end()
            encoder.resolve_query_set(queries, 0, 2 * len(steps), times, 0)
            self._queue.submit([encoder.finish()])
        stamps = self.read(times, size).view(np.uint64).reshape(-1, 2)
        spans: npt.NDArray[np.float64] = (stamps[:, 1] - stamps[:, 0]).astype(np.float64) * 1e-9
        return spans

    def copy(self, copies: Sequence[Copy]) -> None:
        """In this order."""
        with self._errors("copy"):
            encoder = self._device.create_command_encoder()
            for copy in copies:
                encoder.copy_buffer_to_buffer(*copy)
            self._queue.submit([encoder.finish()])

    def close(self) -> None:
        """The memory is free again at once; the objects go when Python lets go of them."""
        self._device.destroy()

    @contextmanager
    def _errors(self, doing: str, size: int | None = None) -> Iterator[None]:
        """What wgpu raises, as ours."""
        try:
            yield
        except self._wgpu.GPUOutOfMemoryError as error:
            raise OutOfMemory(ENGINE, f"{self.adapter} has no room: {_brief(error)}", size) from error
        except (self._wgpu.GPUError, self._wgpu.GPUPipelineError, RuntimeError) as error:
            if doing in ("start", "allocate", "bind") or doing.startswith("compile"):
                raise EngineUnavailable(ENGINE, f"{self.adapter} cannot {doing}: {_brief(error)}") from error
            raise GenerationFailed(ENGINE, f"{self.adapter} cannot {doing}: {_brief(error)}") from error


def _check_limits(adapter: Adapter) -> None:
    lacking = [
        f"{name} is {adapter.limits[name]}, and {needed} are needed"
        for name, needed in _NEEDED.items()
        if adapter.limits.get(name, needed) < needed
    ]
    if lacking:
        raise EngineUnavailable(ENGINE, f"{adapter} is too small: {'; '.join(lacking)}")


def _fast_recorder() -> Callable[[Any, Sequence[Step]], None] | None:
    """The calls beneath wgpu's own, which check their arguments for longer than the calls themselves take.

    A third of the time, and what is wrong is still told when the commands are finished. None where a
    version of wgpu has them elsewhere.
    """
    try:
        from wgpu.backends.wgpu_native import _api

        null, library = _api.ffi.NULL, _api.lib
        set_pipeline = library.wgpuComputePassEncoderSetPipeline
        set_group = library.wgpuComputePassEncoderSetBindGroup
        dispatch = library.wgpuComputePassEncoderDispatchWorkgroups
    except (ImportError, AttributeError):
        return None

    def record(compute: Any, steps: Sequence[Step]) -> None:
        native, last = compute._internal, None
        for pipeline, group, (x, y, z) in steps:
            if pipeline is not last:
                set_pipeline(native, pipeline._internal)
                last = pipeline
            set_group(native, 0, group._internal, 0, null)
            dispatch(native, x, y, z)

    return record


def _brief(error: BaseException) -> str:
    """wgpu's messages are reports of many lines; the last says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
