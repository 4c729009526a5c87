"""What is refused before any work, and what goes wrong while compiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_router.compile import library
from edge_router.compile.graphs.config import DecoderConfig
from edge_router.compile.targets import TargetSpec, host_target
from edge_router.device import host
from edge_router.errors import (
    ArtifactCorrupt,
    BuildFailed,
    InvalidModel,
    LinkerMissing,
    UnsupportedArchitecture,
    UnsupportedTarget,
)
from edge_router.types import SilentProgress, Step

NUMBERS: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "rms_norm_eps": 1e-5,
    "vocab_size": 100,
    "tie_word_embeddings": True,
    "position_embedding_base": 10000.0,
    "rope_scaling": None,
    "context_window_size": 64,
    "prefill_chunk_size": 16,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tensor_parallel_shards": 1,
    "pipeline_parallel_stages": 1,
    "max_batch_size": 1,
    "disaggregation": False,
}


class Steps(SilentProgress):
    """Remembers the steps and how far each came."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None]] = []
        self.advanced = 0

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
        self.seen.append((name, total))
        yield self

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount


def compile_(tmp_path: Path, values: Mapping[str, object], **changes: Any) -> Path:
    output = tmp_path / "model.tar"
    given: dict[str, Any] = {"quantization": "q4f16_1", "target": host_target(host()), "output": output}
    library.compile_library(values, **(given | changes))
    return output


def test_progress_is_told(tmp_path: Path) -> None:
    steps = Steps()
    output = compile_(tmp_path, NUMBERS | {"active_vocab_size": 101}, progress=steps)  # of 100 rows
    assert [name for name, _ in steps.seen] == ["compile", "link"]
    assert steps.advanced == steps.seen[0][1]
    assert library.check_library(output)["active_vocab_size"] == 100


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"num_key_value_heads": 3}, "4 query heads over 3"),
        ({"head_dim": 12}, "head_dim 12"),
        ({"prefill_chunk_size": 65}, "prefill_chunk_size 65"),
        ({"tensor_parallel_shards": 2}, "tensor_parallel_shards"),
        ({"hidden_size": 68}, "hidden_size is 68"),
        ({"intermediate_size": 100}, "intermediate_size is 100"),
        *(({"active_vocab_size": odd}, "active_vocab_size is") for odd in (0, -1, 1.5, "90", True, [90])),
    ],
)
def test_contradictions_are_named(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidModel, match=reason):
        compile_(tmp_path, NUMBERS | changes)
    assert not list(tmp_path.glob("model.*"))


def test_what_a_config_may_leave_out() -> None:
    values = {
        name: value for name, value in NUMBERS.items() if name not in ("head_dim", "num_key_value_heads")
    }
    config = DecoderConfig.read(values, "tiny")
    assert (config.head_dim, config.num_key_value_heads) == (16, 4)


def test_the_whole_chat_config_is_taken_too() -> None:
    inner = {name: value for name, value in NUMBERS.items() if name != "model_type"}
    outer = {"model_type": "llama", "model_config": inner, "context_window_size": 32, "active_vocab_size": 90}
    flat = library._flat(outer)
    assert flat["context_window_size"] == 32
    assert flat["active_vocab_size"] == 90
    assert flat["hidden_size"] == 64


def test_unknown_quantizations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="q9f9_9"):
        compile_(tmp_path, NUMBERS, quantization="q9f9_9")


def test_unknown_architectures_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitecture, match="llama") as caught:
        compile_(tmp_path, NUMBERS | {"model_type": "rwkv"})
    assert caught.value.name == "rwkv"


def test_unknown_targets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTarget, match=r"vulkan.*pip install 'edge-router\[webgpu\]'"):
        compile_(tmp_path, NUMBERS, target=TargetSpec("vulkan", "x86_64-unknown-linux-gnu", "x86-64"))


def test_what_must_be_linked_and_cannot_be_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("edge_router.compile.link.find_spec", lambda name: None)
    steps = Steps()
    named = {**NUMBERS, "model": "tiny"}
    target = host_target(host())
    with pytest.raises(LinkerMissing, match="no C compiler") as caught:
        library.compile_library(named, "q4f16_1", target, tmp_path / "model.so", progress=steps)
    assert caught.value.model == "tiny" and not steps.seen


def test_what_breaks_while_compiling_keeps_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(values: Mapping[str, object], parts: Any, where: str) -> Any:
        raise RuntimeError("by design")

    monkeypatch.setattr(library, "definition", lambda model_type: broken)
    with pytest.raises(BuildFailed, match="by design") as caught:
        compile_(tmp_path, NUMBERS)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_mistake_of_a_definition_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "definition", lambda model_type: lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compile_(tmp_path, NUMBERS)


def test_a_library_that_lacks_functions_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        def implements_function(self, name: str, query_imports: bool) -> bool:
            return name not in ("batch_verify", "_metadata")

    monkeypatch.setattr(library, "load_library", lambda path: Machine())
    with pytest.raises(ArtifactCorrupt, match="batch_verify"):
        library.check_library(tmp_path / "model.tar")
