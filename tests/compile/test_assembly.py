"""A model cross-compiled for processors that are not here: what LLVM made of the kernels, as assembly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_router.compile import library
from edge_router.compile.targets import TargetSpec

AVX2 = ("avx", "avx2", "fma", "f16c")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")
LINUX, APPLE = "unknown-linux-gnu", "apple-darwin"


@dataclass(frozen=True)
class Expected:
    """Patterns: `product` must stand in the loops of the matrix products, `never` nowhere in the library."""

    spec: TargetSpec
    product: str
    never: str = "no such instruction"


EXPECTED: Mapping[str, Expected] = {
    "neon": Expected(TargetSpec("llvm", f"aarch64-{LINUX}", "generic"), r"fmla\tv\d+\.4s"),
    "apple": Expected(TargetSpec("llvm", f"aarch64-{APPLE}", "apple-m1"), r"fmla\.4s"),
    "plain": Expected(TargetSpec("llvm", f"x86_64-{LINUX}", "x86-64"), r"pmaddwd\t.*%xmm", r"%[yz]mm"),
    "avx2": Expected(
        TargetSpec("llvm", f"x86_64-{LINUX}", "haswell", AVX2), r"vpmaddwd\t.*%ymm", r"%zmm|vpdpwssd"
    ),
    "avx2, bytes": Expected(
        TargetSpec("llvm", f"x86_64-{LINUX}", "haswell", AVX2, bytes=True),
        r"vpmaddubsw\t.*%ymm",
        r"%zmm|vpdp",
    ),
    "avx-512, bytes": Expected(
        TargetSpec("llvm", f"x86_64-{LINUX}", "znver4", AVX512, bytes=True),
        r"vpdp(?:busd|wssd)\t.*%zmm",
        r"vpmaddwd\t.*%zmm",
    ),
    "avx-vnni": Expected(
        TargetSpec("llvm", f"x86_64-{LINUX}", "alderlake", (*AVX2, "avxvnni")), r"vpdpwssd\t.*%ymm", r"%zmm"
    ),
    "avx-512": Expected(
        TargetSpec("llvm", f"x86_64-{LINUX}", "znver4", AVX512), r"vpdpwssd\t.*%zmm", r"vpmaddwd\t.*%zmm"
    ),
}

# Loops are blocks that jump back to their own head: the innermost ones.
_BLOCK = re.compile(r"\n(\.?LBB\d+_\d+):([^:]*)")
_BACK = r"\t(?:j\w+|b\.\w+|cbn?z|tbn?z)\t.*{}\b"
# products and sums of single float32
_SCALAR = re.compile(r"\tv?(?:mul|add|sub)ss\t|\tv?fn?m(?:add|sub)\d+ss\t|\tf(?:mul|add|sub|n?madd)\ts\d")
_COMMENT = re.compile(r"[ \t]+(?:##?|//|;)\s.*$", re.MULTILINE)

_CALLED = re.compile(r"\t(?:bl|callq?)\t_?([A-Za-z]\w*)")
_PROVIDED = re.compile(r"TVM|mem(?:set|cpy|move)$|bzero$")  # by the runtime, by any C library

CONFIG = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 1,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "context_window_size": 256,
    "prefill_chunk_size": 64,
}


@dataclass(frozen=True)
class Assembly:
    text: str
    expected: Expected

    def loops(self) -> list[str]:
        return [
            block
            for label, block in _BLOCK.findall(self.text)
            if re.search(_BACK.format(re.escape(label)), block)
        ]


_RARE = ("plain", "avx-vnni", "avx2, bytes", "avx-512, bytes")
_CASES = [pytest.param(name, marks=pytest.mark.slow) if name in _RARE else name for name in EXPECTED]


@pytest.fixture(scope="module", params=_CASES)
def assembly(request: pytest.FixtureRequest) -> Assembly:
    expected, found = EXPECTED[request.param], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "link", lambda executable, output: found.extend(sources(executable.mod)))
        library.compile_library(CONFIG, "q4f16_1", expected.spec, Path("model.tar"))
    return Assembly(_COMMENT.sub("", "\n".join(found)), expected)


def sources(module: Any) -> Iterator[str]:
    """The assembly of a module and of all that it imports."""
    if module.kind == "llvm":
        yield module.inspect_source("s")
    for imported in module.imports:
        yield from sources(imported)


def test_products_use_the_vector_unit(assembly: Assembly) -> None:
    loops = assembly.loops()
    products = [loop for loop in loops if re.search(assembly.expected.product, loop)]
    assert len(products) >= 8, f"{len(products)} of {len(loops)} loops"
    assert not re.search(assembly.expected.never, assembly.text)


def test_no_loop_works_on_one_number_at_a_time(assembly: Assembly) -> None:
    for loop in assembly.loops():
        assert 4 * len(_SCALAR.findall(loop)) < loop.count("\n"), loop


def test_nothing_is_called_that_need_not_be_there(assembly: Assembly) -> None:
    """Without hardware for float16 LLVM would call the C compiler's own library; for exp, libm."""
    own = set(re.findall(r"^_?([A-Za-z]\w*):", assembly.text, re.MULTILINE))
    called = set(_CALLED.findall(assembly.text)) - own
    assert called
    assert not [name for name in called if not _PROVIDED.match(name)]
