from dataclasses import asdict, dataclass
from typing import Literal


@dataclass
class EngineConfig:
    """The fields that facts/mlc.md names, with mlc_llm/serve/config.py's types."""

    gpu_memory_utilization: float | None = None
    max_num_sequence: int | None = None
    max_total_sequence_length: int | None = None
    max_single_sequence_length: int | None = None
    prefill_chunk_size: int | None = None
    sliding_window_size: int | None = None
    attention_sink_size: int | None = None
    prefix_cache_mode: Literal["disable", "radix"] = "radix"

    def check(self) -> dict[str, object]:
        share = self.gpu_memory_utilization
        assert share is None or isinstance(share, float)
        values = asdict(self)
        for name, value in values.items():
            if name not in ("gpu_memory_utilization", "prefix_cache_mode"):
                assert value is None or type(value) is int, f"{name} is {value!r}"
        return {name: value for name, value in values.items() if value is not None}
