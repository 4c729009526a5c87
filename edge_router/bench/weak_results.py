"""What `bench weak` found: medians with the lowest and the highest."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.engines.webgpu.profile import Profile


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens: of the prompts that are read, and of the answer that is written."""

    prefill: tuple[int, ...] = (256, 512)
    decode: int = 64


USUAL, SHORT = Lengths(), Lengths((64, 128), 16)  # short ones for what is very slow


@dataclass(frozen=True, slots=True)
class MedianRange:
    """The median of several rounds, and the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> MedianRange:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second; `prefill` by the length of the prompt in tokens."""

    prefill: Mapping[int, MedianRange]
    decode: MedianRange


@dataclass(frozen=True, slots=True)
class Comparison:
    """Another program or format on the same machine; the ratios are ours over theirs."""

    speed: Speed
    prefill_ratio: Mapping[int, MedianRange]
    decode_ratio: MedianRange


@dataclass(frozen=True, slots=True)
class WeakBench:
    """`ttft_ms`: from a question, nothing of it known before, to its answer's first piece.

    `python_ms`: of a sampled token, in which nothing compiled runs; of engine tvm.
    """

    device: str
    model: str
    quantization: str
    threads: int
    speed: Speed
    ttft_ms: MedianRange
    peak_bytes: int  # of the process that runs the model, all in all
    against: Mapping[str, Comparison]
    gpu: Profile | None = None  # where a GPU does the work
    python_ms: MedianRange | None = None
    memory_limit: float | None = None  # tokens per second that the GPU's memory could be read for

    def to_dict(self) -> dict[str, object]:
        """The JSON of `bench weak --json`; medians."""

        def by_length(values: Mapping[int, MedianRange], digits: int) -> dict[str, float]:
            return {str(length): round(value.median, digits) for length, value in values.items()}

        gpu = {} if self.gpu is None else {"gpu": self.gpu.to_dict()}
        python = {} if self.python_ms is None else {"python_ms": round(self.python_ms.median, 3)}
        share = {} if self.memory_share is None else {"decode_memory_share": round(self.memory_share, 3)}
        return {
            "device": self.device,
            "model": self.model,
            "threads": self.threads,
            "prefill_tokens_per_s": by_length(self.speed.prefill, 1),
            "decode_tokens_per_s": round(self.speed.decode.median, 1),
            "ttft_ms": round(self.ttft_ms.median, 1),
            "peak_bytes": self.peak_bytes,
            "against": {
                name: {
                    "prefill_ratio": by_length(other.prefill_ratio, 3),
                    "decode_ratio": round(other.decode_ratio.median, 3),
                }
                for name, other in self.against.items()
            },
            **python,
            **share,
            **gpu,
        }

    @property
    def memory_share(self) -> float | None:
        """Of the speed at which weights, keys and values would be read as fast as the memory can."""
        return None if self.memory_limit is None else self.speed.decode.median / self.memory_limit
