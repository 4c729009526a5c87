"""What lies in a directory, bit for bit, against MLC's definitions of its formats, written out number by number.

Where facts and MLC's code differ, the code counts: it rounds w / scale + zero, not w / scale, in the format's
own type (mlc-llm, quantization/group_quantization.py). What a group of zeros is divided by is left open there.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_router.compile.readers import open_weights
from edge_router.compile.readers.mlc import records
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.parameters import Parameter, parameters
from edge_router.compile.weights.quantize import quantized, supported
from edge_router.compile.weights.quantizers import quantizer
from edge_router.errors import UnknownName


@dataclass(frozen=True)
class Defined:
    """A line of MLC's table: `sideways` formats store linear layers with inputs before outputs."""

    bits: int
    group: int
    dtype: str
    sideways: bool = False
    tables: bool = True


PLAIN = {"q0f16": "float16", "q0f32": "float32"}
PACKED = {
    "q3f16_0": Defined(3, 40, "float16", sideways=True),
    "q3f16_1": Defined(3, 40, "float16"),
    "q4f16_0": Defined(4, 32, "float16", sideways=True),
    "q4f16_1": Defined(4, 32, "float16"),
    "q4f16_2": Defined(4, 32, "float16", tables=False),
    "q4f32_1": Defined(4, 32, "float32"),
}


def by_definition(weights: np.ndarray, form: Defined) -> tuple[np.ndarray, np.ndarray]:
    """Words and scales of a matrix, each row of them that of the matrix."""
    typed, most, each = np.dtype(form.dtype).type, 2 ** (form.bits - 1) - 1, 32 // form.bits
    words, scales = [], []
    for row in weights.astype(form.dtype):
        codes: list[int] = []
        for start in range(0, len(row), form.group):
            block = row[start : start + form.group]
            scale = typed(max(abs(block)) / typed(most))
            scales.append(scale)
            shifted = [typed(w / scale) + typed(most) if scale else typed(most) for w in block]
            chosen = [int(min(max(np.rint(s), 0), 2 * most)) for s in shifted]
            codes += chosen + [0] * (form.group - len(block))
        words += [
            sum(code << (form.bits * place) for place, code in enumerate(codes[at : at + each]))
            for at in range(0, len(codes), each)
        ]
    return np.reshape(np.array(words, "u4"), (len(weights), -1)), np.reshape(scales, (len(weights), -1))


def meant(words: np.ndarray, scales: np.ndarray, form: Defined, columns: int) -> np.ndarray:
    """The matrix that words and scales stand for."""
    each, most = 32 // form.bits, 2 ** (form.bits - 1) - 1
    values = np.empty((len(words), columns), np.float32)
    for row, column in np.ndindex(values.shape):
        code = int(words[row, column // each]) >> (form.bits * (column % each)) & (2**form.bits - 1)
        values[row, column] = np.float32(code - most) * np.float32(scales[row, column // form.group])
    return values


class OneMatrix:
    """A checkpoint of nothing else."""

    source = Path("one")
    tensors: Mapping[str, Any] = {}

    def __init__(self, weights: np.ndarray) -> None:
        self._weights = weights

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return self._weights[start:stop].copy()


NUMBERS = st.one_of(
    st.floats(-60000, 60000, width=16),
    st.integers(-14, 14).map(lambda n: n / 2),  # halves: the steps meet in the middle
    st.sampled_from([0.0, -0.0, 6e-8, -6e-8]),  # the smallest float16
)
MATRICES = arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 90)), elements=NUMBERS)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "linear") for name in PACKED), ("q3f16_0", "embedding"), ("q4f16_0", "head")]
)
@given(weights=MATRICES)
def test_a_matrix_is_stored_as_defined(name: str, kind: Any, weights: np.ndarray) -> None:
    form = PACKED[name]
    parameter = Parameter("m", ("m.weight",), weights.shape[:1], weights.shape, kind)
    with ThreadPoolExecutor(1) as pool:
        stored = dict(
            quantized(OneMatrix(weights), parameter, supported(name), quantizer("round"), None, pool)  # type: ignore[arg-type]
        )
    words, scales = by_definition(weights, form)
    if form.sideways and kind != "embedding":
        words, scales = words.T, scales.T
    assert stored["m.q_weight"].dtype == np.uint32 and stored["m.q_scale"].dtype == form.dtype
    np.testing.assert_array_equal(stored["m.q_weight"], words)
    np.testing.assert_array_equal(stored["m.q_scale"], scales)


def stored_arrays(folder: Path) -> dict[str, np.ndarray]:
    """As they lie in the shards."""
    return {
        name: np.frombuffer(
            record.shard.read_bytes()[record.offset : record.offset + record.bytes], record.dtype
        ).reshape(record.shape)
        for name, record in records(folder, hashes=True).items()
    }


@pytest.fixture(scope="module")
def untied(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.make(tmp_path_factory.mktemp("formats") / "untied", tied=False)


def packaged(made: Any, folder: Path, name: str) -> Path:
    folder.mkdir()
    reader = open_weights(made.folder)
    write_model(
        reader, folder, config={}, form=supported(name), quantizer="round", activations=Activations(),
        windows=PackageWindows(128, 32),
    )  # fmt: skip
    reader.close()
    return folder


@pytest.mark.parametrize("name", [*PLAIN, *PACKED])
def test_a_directory_holds_and_gives_back_what_is_defined(name: str, untied: Any, tmp_path: Path) -> None:
    held = stored_arrays(folder := packaged(untied, tmp_path / "m", name))
    form, back, expected = PACKED.get(name), open_weights(folder), set()
    for parameter in parameters(untied.config, "tiny"):
        weights = np.concatenate([untied.tensors[source] for source in parameter.sources])
        table = parameter.kind in ("embedding", "head")
        if form is None or parameter.kind == "vector" or (table and not form.tables):
            values = weights.astype(PLAIN.get(name) or PACKED[name].dtype)
            np.testing.assert_array_equal(held[f"{parameter.name}.weight"], values)
            expected.add(f"{parameter.name}.weight")
        else:
            words, scales = by_definition(weights, form)
            values = meant(words, scales, form, weights.shape[1])
            if form.sideways and parameter.kind != "embedding":
                words, scales = words.T, scales.T
            np.testing.assert_array_equal(held[f"{parameter.name}.q_weight"], words)
            np.testing.assert_array_equal(held[f"{parameter.name}.q_scale"], scales)
            expected |= {f"{parameter.name}.q_weight", f"{parameter.name}.q_scale"}
        found = np.concatenate([back.rows(source) for source in parameter.sources])
        np.testing.assert_array_equal(found, values.astype(np.float32))
    assert set(held) == expected
    back.close()


@pytest.mark.parametrize("name", list(PACKED))
def test_a_part_of_a_matrix_is_read_back(name: str, untied: Any, tmp_path: Path) -> None:
    back = open_weights(packaged(untied, tmp_path / "m", name))
    for source in ("model.embed_tokens.weight", "model.layers.1.self_attn.k_proj.weight", "lm_head.weight"):
        whole = back.rows(source)
        np.testing.assert_array_equal(back.rows(source, 5, 11), whole[5:11])
        np.testing.assert_array_equal(back.rows(source, 7), whole[7:])
    back.close()


# numpy has no bfloat16
@pytest.mark.parametrize("name", ["q4f16", "int4", "", "Q4F16_1", "q0bf16", "q4bf16_0", "q4bf16_1"])
def test_other_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownName, match="no quantization that can be written named") as caught:
        supported(name)
    assert all(known in str(caught.value) for known in (*PLAIN, *PACKED))
