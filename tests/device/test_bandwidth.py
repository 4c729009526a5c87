from __future__ import annotations

from edge_router.device.bandwidth import memory_bandwidth


def test_memory_is_read_at_some_speed() -> None:
    for threads in (0, 1, 2):
        assert 1e8 < memory_bandwidth(threads) < 1e14
