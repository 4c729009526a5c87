"""Equalized columns: the model computes what it computed, and quantizing costs less where it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers import open_weights
from edge_router.compile.weights.equalize import Activations, Equalized, factors
from edge_router.compile.weights.parameters import parameters
from edge_router.compile.weights.reference import Reference

TOKENS = [5, 9, 200, 17, 44]


def uneven(config: Any, exponent: float) -> Activations:
    """Activations that differ a thousandfold from column to column."""
    rng = np.random.default_rng(0)
    fed = [parameter for parameter in parameters(config, "tiny") if parameter.feeder]
    moments = {p.name: np.exp(rng.normal(0, 2, p.shape[1])).astype(np.float32) for p in fed}
    return Activations(moments, {parameter.name: exponent for parameter in fed})


def test_the_model_stays_what_it_was(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    plain = Reference(reader)
    wanted = parameters(reader.config, "tiny")
    changed = Equalized(reader, wanted, uneven(reader.config, 0.5))
    name = "model.layers.0.mlp.down_proj.weight"
    assert not np.allclose(changed.rows(name), reader.rows(name))
    equal = Reference(changed)
    np.testing.assert_allclose(
        equal.logits(equal.hidden(TOKENS)), plain.logits(plain.hidden(TOKENS)), rtol=1e-3, atol=1e-3
    )
    assert (changed.source, changed.generation) == (reader.source, reader.generation)
    assert changed.tensors == reader.tensors and changed.tokenizer_files() == reader.tokenizer_files()
    changed.close()


def test_ranges_of_rows_are_scaled_alike(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    changed = Equalized(reader, parameters(reader.config, "tiny"), uneven(reader.config, 0.3))
    for name in ("model.layers.1.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight"):
        np.testing.assert_array_equal(changed.rows(name, 7, 30), changed.rows(name)[7:30])


def test_factors_balance_each_other() -> None:
    moments = np.array([1e-4, 1.0, 100.0, 0.0], np.float32)
    found = factors(moments, 0.5)
    assert np.exp(np.log(found).mean()) == pytest.approx(1, rel=1e-5)
    assert found[2] / found[1] == pytest.approx(100 ** (0.5 / 2), rel=1e-4)
    assert (found > 0).all() and np.isfinite(found).all()


def test_without_an_exponent_or_moments_nothing_is_scaled(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    wanted = parameters(reader.config, "tiny")
    for activations in (Activations(), uneven(reader.config, 0.0), Activations({}, {wanted[2].name: 0.3})):
        changed = Equalized(reader, wanted, activations)
        for name in reader.tensors:
            np.testing.assert_array_equal(changed.rows(name), reader.rows(name))
