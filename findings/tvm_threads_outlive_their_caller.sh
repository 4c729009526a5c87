#!/usr/bin/env bash
# apache-tvm 0.27.0.post1 with apache-tvm-ffi 0.1.15.post2 (Linux x86-64, Python 3.11), seen 2026-11-30.
#
# One would guess: TVM's pool of worker threads is one per process, or ends with the Python thread that called the
# kernels.
# What happens: each thread that runs a parallel kernel gets a pool of its own, whose native threads stay for good
# after that thread has ended. A program that makes a thread for each model or each request grows by a pool each time.
# Counted in /proc/self/task; two cores are asked for, so that machines give the same number.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.15.post2 numpy
cat > "$work/look.py" <<'PYTHON'
import os, threading, time
import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule

x = te.placeholder((1024,), "float32", "x")
y = te.compute((1024,), lambda i: x[i] + 1.0, "y")
schedule = Schedule(te.create_prim_func([x, y]).with_attr("global_symbol", "add"))
schedule.parallel(schedule.get_loops(schedule.get_sblock("y"))[0])
kernel = tvm.compile(schedule.mod, target="llvm")
a = tvm.runtime.tensor(np.zeros(1024, "float32"))


def run():
    b = tvm.runtime.tensor(np.empty(1024, "float32"))
    kernel["add"](a, b)
    assert (b.numpy() == 1).all()


def natives():
    time.sleep(0.2)
    return len(os.listdir("/proc/self/task"))


seen = []
for _ in range(6):
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    seen.append(natives())
print("native threads after each Python thread that ran one kernel and ended:", seen)
assert all(later > earlier for earlier, later in zip(seen, seen[1:]))
PYTHON
TVM_NUM_THREADS=2 "$work/venv/bin/python" "$work/look.py"
