"""What a decoder's layers are made of, out of an MLC `model_config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from edge_router.compile.parameters import Sizes
from edge_router.compile.rotary import frequencies
from edge_router.compile.webgpu.shaders.heads import Heads
from edge_router.compile.webgpu.shaders.matvec import GROUP
from edge_router.errors import InvalidModel, UnsupportedArchitecture, UnsupportedTarget

ARCHITECTURES = ("llama",)
QUANTIZATIONS = ("q4f16_1",)
BINDING_BYTES = 128 << 20  # of one buffer that every device can show to a shader


@dataclass(frozen=True, slots=True)
class Decoder:
    """The numbers of a Llama-type model, and those that only its shaders need."""

    sizes: Sizes
    heads: Heads
    epsilon: float
    frequencies: tuple[float, ...]

    @classmethod
    def of(cls, config: Mapping[str, object], quantization: str) -> Decoder:
        """`config` is an MLC `model_config` with `model_type`.

        Raises `UnsupportedArchitecture`, `UnsupportedTarget` for a quantization, `InvalidModel`.
        """
        architecture = str(config.get("model_type"))
        if architecture not in ARCHITECTURES:
            raise UnsupportedArchitecture(architecture, ARCHITECTURES)
        if quantization not in QUANTIZATIONS:
            known = " and ".join(QUANTIZATIONS)
            raise UnsupportedTarget("webgpu", f"weights in {quantization}; it reads {known}")
        sizes = Sizes.of(config, architecture)
        for name, width in (("hidden_size", sizes.hidden), ("intermediate_size", sizes.intermediate)):
            if width % GROUP:
                raise InvalidModel(architecture, f"{name} is {width}, which groups of {GROUP} don't divide")
        if sizes.head_dim % 4 or sizes.head_dim > 256:
            raise InvalidModel(architecture, f"heads of {sizes.head_dim} numbers")
        theta = {**config, "rope_theta": config.get("position_embedding_base", 10000.0)}
        return cls(
            sizes=sizes,
            heads=Heads(sizes.heads, sizes.kv_heads, sizes.head_dim, sizes.head_dim**-0.5),
            epsilon=cast(float, config["rms_norm_eps"]),
            frequencies=tuple(float(value) for value in frequencies(theta, sizes.head_dim)),
        )


def row_parts(rows: int, row_bytes: int, most: int = BINDING_BYTES) -> list[tuple[int, int]]:
    """(first, one behind the last) of the parts in which a table is bound, each of at most `most` bytes."""
    step = max(1, most // row_bytes)
    step -= step % 64 if step > 64 else 0
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]
