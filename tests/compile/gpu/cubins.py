"""What NVIDIA's compiler notes of each kernel in a cubin: an ELF file with attributes in the section .nv.info."""

from __future__ import annotations

import struct

_FRAME, _NUMBERS = 0x11, 4  # the attribute "bytes of memory for a thread's own", and its form
_SYMBOLS = 2


def frames(cubin: bytes) -> dict[str, int]:
    """Bytes of memory that a thread of each kernel needs beside its registers."""
    (start,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, start + i * size) for i in range(count)]

    def text(section: int, offset: int) -> str:
        return cubin[sections[section][4] + offset :].split(b"\0", 1)[0].decode()

    table = next(section for section in sections if section[1] == _SYMBOLS)
    symbols = [
        text(table[6], struct.unpack_from("<I", cubin, table[4] + i)[0]) for i in range(0, table[5], 24)
    ]
    found: dict[str, int] = {}
    for section in sections:
        at, end = section[4], section[4] + section[5]
        while text(names, section[0]) == ".nv.info" and at < end:
            form, attribute, length = struct.unpack_from("<BBH", cubin, at)
            if form == _NUMBERS:
                if attribute == _FRAME:
                    symbol, value = struct.unpack_from("<II", cubin, at + 4)
                    found[symbols[symbol]] = value
                at += length
            at += 4
    return found
