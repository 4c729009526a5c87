"""What lies in a GPU's KV cache goes to a file and comes back, to the bit."""

from __future__ import annotations

import numpy as np

from edge_router.engines.webgpu.runner import WebGpuRunner


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 288, count).tolist()


def test_pages_come_back_to_the_bit_wherever_they_lie(empty: WebGpuRunner) -> None:
    given, length = tokens(110), 64
    pages = empty.saving
    assert pages is not None
    for sequence in range(3):
        empty.add_sequence(sequence)
    for sequence, count in ((1, 20), (2, 20), (1, 20)):  # pages that do not lie side by side
        empty.prefill(sequence, tokens(count, seed=sequence))
    for start in (0, 32):
        empty.prefill(0, given[start : start + 32])
    saved: list[bytes] = []
    pages.save(0, length, lambda data: saved.append(bytes(data)))
    assert sum(map(len, saved)) == pages.saved_bytes(length)
    wanted = empty.prefill(0, given[length:100]).copy()
    empty.remove_sequence(1)
    rest = memoryview(b"".join(saved))

    def read(target: memoryview) -> None:
        nonlocal rest
        target[:] = rest[: target.nbytes]
        rest = rest[target.nbytes :]

    empty.add_sequence(3)
    pages.restore(3, length, read)
    assert not rest and len(list(empty._pages.runs(3, length))) > 1
    assert np.array_equal(empty.prefill(3, given[length:100]), wanted)
    for token in given[100:]:
        one = empty.decode([0], [token]).copy()
        assert np.array_equal(empty.decode([3], [token]), one)
    form = dict(pages.saved_form)
    empty.half = not empty.half
    assert empty.saving is not None and dict(empty.saving.saved_form) != form
    empty.half = not empty.half
