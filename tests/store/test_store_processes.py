"""Several real processes at one store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_router.store import ArtifactStore
from edge_router.store.prefixes import PrefixStore

PROGRAM = """
import os, sys, time
from pathlib import Path
from edge_router.store import ArtifactStore
from edge_router.types import SilentProgress

class Loud(SilentProgress):
    def note(self, text):
        print("NOTE", text, flush=True)

def build(folder):
    print("BUILDS", flush=True)
    for number in range(20):
        (folder / f"part{number}").write_bytes(os.urandom(50_000))
        time.sleep(float(sys.argv[2]))

folder = ArtifactStore(Path(sys.argv[1]), progress=Loud()).obtain(
    "library", "key", build, inputs={"model": "m"}
)
assert len(list(folder.glob("part*"))) == 20
print("HAS", folder, flush=True)
"""


def start(root: Path, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root), str(pause)], stdout=subprocess.PIPE, text=True
    )


def test_processes_that_start_at_once_build_once(root: Path) -> None:
    processes = [start(root, 0.05) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(output.count("BUILDS") for output in outputs) == 1
    assert all(f"HAS {root / 'library' / 'key'}" in output for output in outputs)
    assert sum("NOTE waiting for another process" in output for output in outputs) >= 1
    ArtifactStore(root).verify(ArtifactStore(root).scan().records[0])


@pytest.mark.skipif(os.name == "nt", reason="there is no kill that cannot be caught")
def test_a_killed_build_is_swept_and_built_again(root: Path) -> None:
    victim = start(root, 5.0)
    assert victim.stdout is not None and victim.stdout.readline() == "BUILDS\n"
    partial = root / "library" / ".key.partial"
    while not list(partial.glob("part*")):
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=60)
    assert ArtifactStore(root).find("library", "key") is None
    assert [item.path for item in ArtifactStore(root).scan().damaged] == [partial]
    output, _ = start(root, 0).communicate(timeout=60)
    assert "BUILDS" in output and "HAS" in output
    assert not partial.exists()


KEEPING = """
import sys, time
from pathlib import Path
from edge_router.store.prefixes import PrefixStore

def give(write):
    print("WRITES", flush=True)
    for number in range(8):
        write(memoryview(bytes([number]) * 50_000))
        time.sleep(float(sys.argv[2]))

PrefixStore(Path(sys.argv[1]), 1 << 30).write({"model": "m"}, 400_000, give)
print("DONE", flush=True)
"""


def keeping(root: Path, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KEEPING, str(root), str(pause)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(os.name == "nt", reason="there is no kill that cannot be caught")
def test_what_is_kept_of_a_prompt_is_there_whole_or_not_at_all(root: Path) -> None:
    prefixes, read = PrefixStore(root, 1 << 30), bytearray(400_000)
    victim = keeping(root, 5.0)
    assert victim.stdout is not None and victim.stdout.readline() == "WRITES\n"
    other, _ = keeping(root, 0).communicate(timeout=60)
    assert other == "DONE\n"  # it writes nothing while the first one does, and does not wait for it
    victim.send_signal(signal.SIGINT)
    victim.communicate(timeout=60)
    assert not prefixes.read({"model": "m"}, 400_000, lambda fill: fill(memoryview(read)))
    victim = keeping(root, 5.0)
    assert victim.stdout is not None and victim.stdout.readline() == "WRITES\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=60)
    assert not prefixes.read({"model": "m"}, 400_000, lambda fill: fill(memoryview(read)))
    assert len(ArtifactStore(root).scan().damaged) == 1  # which `artifacts list` tells and `prune` removes
    last, _ = keeping(root, 0).communicate(timeout=60)
    assert last == "WRITES\nDONE\n" and not ArtifactStore(root).scan().damaged
    assert prefixes.read({"model": "m"}, 400_000, lambda fill: fill(memoryview(read)))
    assert read == b"".join(bytes([number]) * 50_000 for number in range(8))
