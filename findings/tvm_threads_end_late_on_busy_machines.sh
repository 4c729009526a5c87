#!/usr/bin/env bash
# apache-tvm 0.27.0.post1 with apache-tvm-ffi 0.1.15.post2 (Linux x86-64, Python 3.11), seen 2026-11-30.
#
# One would guess: to end TVM's pool of threads, or to make it anew, takes a moment, for the threads have nothing to do.
# What happens: a thread that looks for work yields the processor TVM_THREAD_POOL_SPIN_COUNT times (300,000 unless that
# says otherwise) before it sleeps or hears that it is to end, and whoever ends the pool waits for it. Each yield lets
# all others have their turn first, so that with some programs on the same cores even a thousand of them take
# seconds: a program that makes its pool and at once asks for another one seems to hang while it loads.
# Shown on one core of the machine, without and with four busy programs beside, 1,000 times.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.15.post2 numpy
cat > "$work/look.py" <<'PYTHON'
import ctypes, os, subprocess, sys, threading, time
from importlib.util import find_spec
from pathlib import Path

os.environ |= {"TVM_THREAD_POOL_SPIN_COUNT": "1000", "TVM_BIND_THREADS": "0", "TVM_NUM_THREADS": "3"}
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import tvm_ffi  # noqa: E402, F401

folder = Path(find_spec("tvm").origin).parent / "lib"
library = ctypes.CDLL(str(next(folder.glob("libtvm_runtime.so"))), ctypes.RTLD_GLOBAL)
reset = library["_ZN3tvm7runtime9threading15ResetThreadPoolEv"]


def seconds() -> float:
    """To make this thread's pool and to ask for another one, in a thread that has none yet."""
    took = []

    def work() -> None:
        began = time.perf_counter()
        reset()
        took.append(time.perf_counter() - began)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return took[0]


alone = min(seconds() for _ in range(3))
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
try:
    time.sleep(1)
    busy = min(seconds() for _ in range(3))
finally:
    for other in others:
        other.kill()
print(f"the pool made anew, least of three: alone {alone:.4f} s, beside four busy programs {busy:.2f} s")
sys.exit(not (busy > 0.5 and busy > 20 * alone))
PYTHON
"$work/venv/bin/python" "$work/look.py"
