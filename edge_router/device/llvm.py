"""LLVM's names for this machine's processor and its extensions, as TVM's compiler knows them.

The compiler takes 259 MB and a second or more, and gives nothing back: another process asks it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

from edge_router.parsing import strict_json
from edge_router.system.child_process import can_start, start

LlvmCpu = tuple[str, tuple[str, ...]]


def ask_llvm() -> LlvmCpu:
    """Name and extensions. Raises `ImportError` and what a TVM of another kind raises."""
    if "tvm" not in sys.modules and can_start():
        with suppress(OSError, ValueError), start(["-m", __name__], stderr=subprocess.DEVNULL) as child:
            out, _ = child.communicate()
            name, features = strict_json.parse(out)  # nothing, where it has failed: then it fails here, too
            return name, tuple(features)
    return _ask()


def _ask() -> LlvmCpu:
    import tvm  # noqa: F401  (registers LLVM's functions)
    import tvm_ffi

    name = str(tvm_ffi.get_global_func("tvm.codegen.llvm.GetHostCPUName")())
    features = tvm_ffi.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    return name, tuple(sorted(str(feature) for feature, present in features.items() if present))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_ask()))
