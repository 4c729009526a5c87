"""Kernels are compiled for every instruction set that this processor can run, and called with numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.activations import GROUP, Form
from edge_router.compile.kernels.isa import Dot, Isa
from edge_router.compile.targets import host_target
from edge_router.device import host

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Machine:
    """`isa` is how a kernel is written, `cpu` what LLVM compiles it for."""

    name: str
    isa: Isa
    cpu: str

    @property
    def finest(self) -> bool:
        """Whether few rows are taken as finely as sixteen bits can."""
        return self.isa.dot is Dot.FLOAT or not self.isa.for_few_rows().bytes

    def taken(self, x: Array) -> list[Array]:
        """Activations as products with weights of four bits may take them: of many rows, and of few."""
        if self.isa.dot is Dot.FLOAT:
            return [x]
        forms = {Form.of(isa): None for isa in (self.isa, self.isa.for_few_rows())}
        return [self._rounded(x, form) for form in forms]

    @staticmethod
    def _rounded(x: Array, form: Form) -> Array:
        """Integers of this form, with a scale for each 32."""
        groups = np.pad(x.astype("f4"), ((0, 0), (0, -x.shape[1] % GROUP))).reshape(len(x), -1, GROUP)
        peaks = np.maximum(np.abs(groups).max(-1, keepdims=True), np.float32(1e-30))
        factors = (np.float32(form.limit) / peaks).astype("f8")  # the product is rounded once
        integers = np.rint(groups * factors).astype("f4")
        return (integers * (peaks * np.float32(1 / form.limit))).reshape(len(x), -1)[:, : x.shape[1]]

    def compile(self, function: Any) -> Callable[..., None]:
        """To a function that takes numpy arrays, which it may change, and numbers."""
        import tvm

        triple = host_target(host()).triple
        target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": self.cpu})
        name = str(function.attrs["global_symbol"]) if "global_symbol" in function.attrs else "main"
        module = tvm.IRModule({name: function.with_attr("global_symbol", name)})
        with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}):
            kernel = tvm.compile(module, target)[name]

        def run(*arguments: Array | float) -> None:
            tensors = [tvm.runtime.tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
            kernel(*tensors)
            for array, tensor in zip(arguments, tensors, strict=True):
                if isinstance(array, np.ndarray):
                    array[...] = tensor.numpy()

        return run


def _machines() -> list[Machine]:
    spec = host_target(host())
    if spec.machine != "x86_64":
        return [Machine("host", spec.isa(), spec.cpu)]
    offered = {name.replace("_", "") for name in spec.features}
    candidates = [
        ("vnni512", Isa(16, 32, Dot.VNNI), "znver4", {"avx512vnni", "avx512bw", "avx512vl"}),
        ("pairs512", Isa(16, 32, Dot.PAIRS), "skylake-avx512", {"avx512bw", "avx512vl"}),
        ("avx2", Isa(8, 16, Dot.PAIRS), "haswell", {"avx2", "fma", "f16c"}),
        (
            "vnni512-bytes",
            Isa(16, 32, Dot.VNNI, bytes=True),
            "znver4",
            {"avx512vnni", "avx512bw", "avx512vl"},
        ),
        ("pairs512-bytes", Isa(16, 32, Dot.PAIRS, bytes=True), "skylake-avx512", {"avx512bw", "avx512vl"}),
        ("avx2-bytes", Isa(8, 16, Dot.PAIRS, bytes=True), "haswell", {"avx2", "fma", "f16c"}),
        ("plain", Isa(4, 16, Dot.PAIRS, half=False), "x86-64", set[str]()),
        ("float", Isa(4, 32, Dot.FLOAT), "haswell", {"avx2", "fma", "f16c"}),  # as on ARM
    ]
    return [Machine(name, isa, cpu) for name, isa, cpu, needed in candidates if needed <= offered]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "machine" in metafunc.fixturenames:
        found = _machines()
        if not hasattr(metafunc.module, "EVERY_DOT"):  # only products of matrices multiply integers
            found = list({(m.isa.lanes, m.isa.half): m for m in reversed(found)}.values())
        metafunc.parametrize("machine", found, ids=[machine.name for machine in found])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
