from __future__ import annotations

import pytest

from edge_router.architectures.quantization import QUANTIZATIONS, quantization
from edge_router.errors import UnknownName

# facts of MLC's own table
BITS = {
    "q0f16": 16,
    "q0bf16": 16,
    "q0f32": 32,
    "q3f16_0": 3.6,
    "q3f16_1": 3.6,
    "q4f16_0": 4.5,
    "q4f16_1": 4.5,
    "q4f16_2": 4.5,
    "q4bf16_0": 4.5,
    "q4bf16_1": 4.5,
    "q4f32_1": 5.0,
}


@pytest.mark.parametrize(("name", "bits"), BITS.items())
def test_bits_per_weight_are_those_of_mlcs_table(name, bits):
    assert quantization(name).bits_per_weight == pytest.approx(bits)


def test_the_table_is_complete():
    assert set(QUANTIZATIONS) == set(BITS)


def test_what_is_quantized_differs():
    assert quantization("q4f16_1").quantizes("embedding") and quantization("q4f16_1").quantizes("head")
    assert not quantization("q4f16_2").quantizes("embedding") and not quantization("q4f16_2").quantizes(
        "head"
    )
    assert all(form.quantizes("linear") for form in QUANTIZATIONS.values() if form.bits)
    assert not any(form.quantizes("vector") for form in QUANTIZATIONS.values())
    assert not quantization("q0f16").quantizes("linear")


def test_the_last_group_of_a_row_is_filled_up():
    assert quantization("q4f16_1").groups(64) == 2
    assert quantization("q4f16_1").groups(65) == 3
    assert quantization("q3f16_1").groups(4096) == 103


def test_words_of_a_group():
    assert quantization("q4f16_1").words_per_group == 4
    assert quantization("q3f16_1").words_per_group == 4
    assert quantization("q0f16").words_per_group == 0


def test_an_unknown_format_is_told_with_the_nearest():
    with pytest.raises(UnknownName, match="q4f16_1"):
        quantization("q4f16")
