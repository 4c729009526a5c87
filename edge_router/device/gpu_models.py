"""GPUs by the names that people know them by: memory, and what it can be read at, as their makers state both.

For planning for a card that is not here. Laptop models are other chips under the same names, with less.
"""

from __future__ import annotations

import difflib
import re

from edge_router.errors import UnknownName
from edge_router.records import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class GpuModel:
    """`memory` in bytes; of a computer that shares it with the processor None, for it is sold with several
    sizes. `bandwidth` in bytes per second. `device`: what runs there, as `weak.device` names it."""

    name: str
    memory: int | None
    bandwidth: float
    device: str


# Name, GiB, GB/s. NVIDIA from sm_80 on is `cuda` here; older ones run through Vulkan.
_CUDA = """
RTX 3050 6GB|6|168; RTX 3050|8|224; RTX 3060|12|360; RTX 3060 8GB|8|240; RTX 3060 Ti|8|448; RTX 3070|8|448
RTX 3070 Ti|8|608; RTX 3080|10|760; RTX 3080 12GB|12|912; RTX 3080 Ti|12|912; RTX 3090|24|936
RTX 3090 Ti|24|1008; RTX 4060|8|272; RTX 4060 Ti|8|288; RTX 4060 Ti 16GB|16|288; RTX 4070|12|504
RTX 4070 Super|12|504; RTX 4070 Ti|12|504; RTX 4070 Ti Super|16|672; RTX 4080|16|717
RTX 4080 Super|16|736; RTX 4090|24|1008; RTX 5060|8|448; RTX 5060 Ti|8|448; RTX 5060 Ti 16GB|16|448
RTX 5070|12|672; RTX 5070 Ti|16|896; RTX 5080|16|960; RTX 5090|32|1792; RTX 3050 Laptop|4|192
RTX 3060 Laptop|6|336; RTX 3070 Laptop|8|448; RTX 3080 Laptop|8|448; RTX 4050 Laptop|6|192
RTX 4060 Laptop|8|256; RTX 4070 Laptop|8|256; RTX 4080 Laptop|12|432; RTX 4090 Laptop|16|576
RTX A2000 12GB|12|288; RTX A4000|16|448; RTX A5000|24|768; RTX A6000|48|768; A10|24|600; L4|24|300
L40S|48|864; A100 40GB|40|1555; A100 80GB|80|2039; H100|80|3350; H200|141|4800
"""
_VULKAN = """
GTX 1060|6|192; GTX 1070|8|256; GTX 1080|8|320; GTX 1080 Ti|11|484; GTX 1650|4|128; GTX 1660|6|192
GTX 1660 Super|6|336; GTX 1660 Ti|6|288; RTX 2060|6|336; RTX 2070|8|448; RTX 2080|8|448
RTX 2080 Ti|11|616; T4|16|320; RX 580|8|256; RX 5700 XT|8|448; RX 6600|8|224; RX 6600 XT|8|256
RX 6700 XT|12|384; RX 6800|16|512; RX 6800 XT|16|512; RX 6900 XT|16|512; RX 7600|8|288; RX 7600 XT|16|288
RX 7700 XT|12|432; RX 7800 XT|16|624; RX 7900 XT|20|800; RX 7900 XTX|24|960; RX 9060 XT|16|322
RX 9070|16|645; RX 9070 XT|16|645; Arc A750|8|512; Arc A770|16|560; Arc B570|10|380; Arc B580|12|456
Steam Deck||88
"""
_METAL = """
Apple M1||68; Apple M1 Pro||200; Apple M1 Max||400; Apple M1 Ultra||800; Apple M2||100; Apple M2 Pro||200
Apple M2 Max||400; Apple M2 Ultra||800; Apple M3||100; Apple M3 Pro||150; Apple M3 Max||300; Apple M4||120
Apple M4 Pro||273; Apple M4 Max||410
"""
_MEMORY = re.compile(r"\s(\d{1,3}) ?gi?b\b", re.IGNORECASE)
_SERIES = ("rtx", "gtx", "rx", "arc")  # which is mostly left out where a number says it all: "3060 ti"
_MAKERS = re.compile(r"\((?:r|tm|c)\)|\b(?:nvidia|geforce|amd|radeon|intel|graphics|gpu|tesla)\b")


def gpu_models() -> dict[str, GpuModel]:
    found = {}
    for device, table in (("cuda", _CUDA), ("vulkan", _VULKAN), ("metal", _METAL)):
        for row in table.replace("\n", ";").split(";"):
            if row.strip():
                name, gib, speed = row.strip().split("|")
                memory = int(gib) * GIB if gib else None
                found[name] = GpuModel(name, memory, float(speed) * 1e9, device)
    return found


def find_gpu(name: str) -> GpuModel:
    """Whatever its maker, and however it is spaced: "rtx3060", "NVIDIA GeForce RTX 3060", "m2 pro".

    Raises `UnknownName` with the nearest ones.
    """
    known = {_plain(one): model for one, model in gpu_models().items()}
    wanted = _plain(name)
    bare, told = _plain(_MEMORY.sub("", name)), _MEMORY.search(name)
    if wanted in known:
        return known[wanted]
    if told is not None and bare in known and known[bare].memory == int(told[1]) * GIB:
        return known[bare]  # whose memory is named though there is no other
    series = [known[f"{one}{wanted}"] for one in _SERIES if f"{one}{wanted}" in known]
    if wanted and len(series) == 1:
        return series[0]
    near = difflib.get_close_matches(wanted, known, n=4, cutoff=0.6) if wanted else []
    names = [model.name for model in known.values()]
    raise UnknownName("GPU", name, names, [known[one].name for one in near])


def _plain(name: str) -> str:
    words = _MAKERS.sub(" ", name.casefold().replace("apple", " "))
    return re.sub(r"[^a-z0-9]", "", re.sub(r"(\d+) ?gi?b\b", r"\1gb", words))
