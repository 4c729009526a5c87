"""What of MLC's packages a Python has. Other Pythons run this text, so it imports nothing of ours."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.util import find_spec

PACKAGES = ("mlc_llm", "tvm", "tvm_ffi")  # names to import; who distributes them differs by platform


def found() -> dict[str, object]:
    """For each package whether it is there, who brings it, and a hash of the lists of their files.

    Nightly builds share one version number, so the lists of files, with a hash of each, count as well.
    """
    from importlib.metadata import distribution, packages_distributions

    owners, packages = packages_distributions(), {}
    for package in PACKAGES:
        held = [distribution(name) for name in sorted(set(owners.get(package, ())))]
        records = "".join(each.read_text("RECORD") or "" for each in held)
        packages[package] = {
            "there": find_spec(package) is not None,
            "owners": [[each.metadata["Name"], each.version] for each in held],
            "build": hashlib.sha256(records.encode()).hexdigest(),
        }
    return {"packages": packages}


def main() -> None:
    facts: dict[str, object] = {"version": list(sys.version_info[:3])}
    try:
        facts.update(found())
    except ImportError:  # before Python 3.10, which is told by its version
        facts["packages"] = {}
    print(json.dumps(facts))  # noqa: T201 - what the other side reads


if __name__ == "__main__":
    main()
