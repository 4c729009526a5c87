from dataclasses import asdict, dataclass, field
from typing import Literal

_WHOLE = (
    "max_num_sequence",
    "max_total_sequence_length",
    "max_single_sequence_length",
    "prefill_chunk_size",
    "sliding_window_size",
    "attention_sink_size",
)


@dataclass
class EngineConfig:
    """The fields of mlc_llm/serve/config.py, all of them."""

    model: str | None = None
    model_lib: str | None = None
    additional_models: list[str | tuple[str, str]] = field(default_factory=list)
    mode: Literal["local", "interactive", "server"] | None = None
    tensor_parallel_shards: int | None = None
    pipeline_parallel_stages: int | None = None
    opt: str | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_page_size: int = 16
    max_num_sequence: int | None = None
    max_total_sequence_length: int | None = None
    max_single_sequence_length: int | None = None
    prefill_chunk_size: int | None = None
    sliding_window_size: int | None = None
    attention_sink_size: int | None = None
    max_history_size: int | None = None
    kv_state_kind: Literal["kv_cache", "rnn_state"] | None = None
    speculative_mode: Literal["disable", "small_draft", "eagle", "medusa"] = "disable"
    spec_draft_length: int = 0
    spec_tree_width: int = 1
    prefix_cache_mode: Literal["disable", "radix"] = "radix"
    prefix_cache_max_num_recycling_seqs: int | None = None
    prefill_mode: Literal["chunked", "hybrid"] = "hybrid"
    verbose: bool = True

    def given(self) -> dict[str, object]:
        """What is not as it is by default; numbers of another type than MLC's own are wrong here."""
        share, values, plain = self.gpu_memory_utilization, asdict(self), asdict(EngineConfig())
        assert share is None or isinstance(share, float)
        for name in _WHOLE:
            assert values[name] is None or type(values[name]) is int, f"{name} is {values[name]!r}"
        return {name: value for name, value in values.items() if value != plain[name]}
