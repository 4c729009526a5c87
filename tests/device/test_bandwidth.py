from __future__ import annotations

from pathlib import Path

from edge_router.device.bandwidth import best_bandwidth, memory_bandwidth


def test_memory_is_read_at_some_speed() -> None:
    for threads in (0, 1, 2):
        assert 1e8 < memory_bandwidth(threads) < 1e14


def test_the_best_that_was_ever_measured_counts(tmp_path: Path) -> None:
    file, speeds = tmp_path / "deep" / "bandwidth.json", iter([5e9, 20e9, 3e9, 4e9, 6e9, 7e9])

    def ask(machine: str = "mine", threads: int = 2) -> float:
        return best_bandwidth(threads, file, machine, measure=lambda threads: next(speeds))

    assert [ask(), ask(), ask()] == [5e9, 20e9, 20e9]
    assert ask("another") == 4e9 and ask("another", 3) == 6e9
    file.write_text("{")
    assert ask() == 7e9
