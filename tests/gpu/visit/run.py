"""There: every step of a visit in a process of its own and within its own time: `run.py PART OUT [--emulated FOLDER]`.

Each step writes its own file; gpu.json says what GPU it was, and how each step ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
HOMES = {
    "compile": "compile",
    "models": "models",
}  # folders of the package that lie elsewhere in the checkout
PLACE = Path("/var/tmp/edge_router_visit")
LONGEST = {  # seconds; together less than six minutes, so that no step takes another's
    "small": 15, "kernels": 40, "logits": 40, "speed": 35, "memory": 50, "exhausted": 25, "router": 15, "serving": 35, "vulkan": 15,
}  # fmt: skip
MACHINE_S = 10  # for what the machine is
END_S = 2.0  # for the end of what was killed
SLOWER = 4  # times that the emulated GPU may take
SOURCES = (
    "edge_router",
    "compile",
    "models",
    "tests/compile/gpu",
    "tests/gpu",
)  # what runs there of the checkout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--emulated", type=Path)
    parser.add_argument("steps", nargs="*", help="all, if none is named")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for old in given.out.glob("*.json"):
        old.unlink()
    if given.emulated is None:
        PLACE.mkdir(parents=True, exist_ok=True)
        sys.exit(visit(given.part, given.out.resolve(), PLACE, None, given.steps))
    with tempfile.TemporaryDirectory() as place:
        sys.exit(visit(given.part, given.out.resolve(), Path(place), given.emulated.resolve(), given.steps))


def visit(part: Path, out: Path, place: Path, emulated: Path | None, only: Sequence[str]) -> int:
    """How many things were not good."""
    if (place / "pack").exists():  # another part's, with links into another checkout
        shutil.rmtree(place / "pack")
    with tarfile.open(part) as archive:
        archive.extractall(place, filter="data")
    pack = place / "pack"
    link_checkout(pack / "site")
    described = json.loads((pack / "manifest.json").read_text(encoding="utf-8"))
    environment = _environment(pack, out, place, emulated)
    facts: dict[str, Any] = {"machine": _machine(environment), "commit": _commit(described), "steps": {}}
    _write(out / "gpu.json", facts)
    for step in steps(described):
        if only and step[0] not in only:
            continue
        limit = LONGEST[step[0]] * (SLOWER if emulated else 1)
        print(f"==> {' '.join(step)} ({limit:g} s at most)", flush=True)  # noqa: T201
        ended = within(limit, [sys.executable, str(HERE / f"{step[0]}.py"), *step[1:]], environment)
        print(ended["said"][-3000:], flush=True)  # noqa: T201
        for cut_off in out.glob("*.new"):  # of files only a few come back
            cut_off.unlink()
        facts["steps"][" ".join(step)] = ended
        _write(out / "gpu.json", facts)
    return _told(facts, out)


def steps(described: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """In the order of what is worth most."""
    speeds = [("speed", name) for name in described["speed"]]
    rest = ("memory", "exhausted", "router", "serving", "vulkan")
    return [("small",), ("kernels",), ("logits",), *speeds, *((name,) for name in rest)]


def link_checkout(site: Path) -> None:
    """The package as it would be installed, of links into the checkout."""
    package = site / "edge_router"
    package.mkdir(exist_ok=True)
    for path in (ROOT / "edge_router").iterdir():
        (package / path.name).symlink_to(path)
    for name, source in HOMES.items():
        (package / name).symlink_to(ROOT / source)


def sources(root: Path = ROOT) -> str:
    """A hash of what runs there of the checkout."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in SOURCES for file in (root / folder).rglob("*.py")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _commit(described: Mapping[str, Any]) -> str:
    """The pack's, as git names it: "-dirty" where the checkout beside it is not what it was made of."""
    commit = str(described["commit"])
    return commit if described.get("sources") == sources() else f"{commit.removesuffix('-dirty')}-dirty"


def _environment(pack: Path, out: Path, place: Path, emulated: Path | None) -> dict[str, str]:
    kept = (
        "PATH",
        "LD_LIBRARY_PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "VK_DRIVER_FILES",
        "NVIDIA_VISIBLE_DEVICES",
        "CUDA_VISIBLE_DEVICES",
    )
    found = {name: os.environ[name] for name in kept if name in os.environ}
    paths = [str(pack / "site")]
    if emulated is not None:
        paths.insert(0, str(HERE / "bare"))
        found |= {
            "GPU_EMULATED": str(emulated),
            "LD_LIBRARY_PATH": str(emulated),
            "EMULATED_MEMORY": str(1 << 28),
        }
    else:
        found["GPU_REQUIRED"] = "1"
    return found | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "EDGE_ROUTER_HOME": str(place / "home"),
        "ORT_DISABLE_TELEMETRY": "1",
        "GPU_PACK": str(pack),
        "GPU_OUT": str(out),
    }


def within(limit: float, command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Whatever it does, it ends with its limit, and all that it has started."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            ended: int | str = process.wait(limit)
        except subprocess.TimeoutExpired:
            ended = "its time was up"
        finally:
            _end(process)
        log.seek(0)
        said = log.read()
    return {"ended": ended, "seconds": round(time.monotonic() - begin, 1), "said": said[-4000:]}


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # a driver may hold it for good: the next step must not wait
        process.wait(END_S)


def _machine(environment: Mapping[str, str]) -> dict[str, Any]:
    asked = (
        "import json; from dataclasses import asdict; from edge_router.device import gpus;"
        "print(json.dumps([asdict(gpu) for gpu in gpus()]))"
    )
    ended = within(MACHINE_S, [sys.executable, "-P", "-c", asked], environment)
    try:
        found = json.loads(ended["said"].splitlines()[-1])
    except (IndexError, ValueError):
        found = f"{ended['ended']}: {ended['said'][-500:]}"
    return {"gpus": found, "python": platform.python_version(), "emulated": "GPU_EMULATED" in environment}


def _write(file: Path, facts: Mapping[str, Any]) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    new.replace(file)


def _told(facts: Mapping[str, Any], out: Path) -> int:
    """A short table, last; the number of what is bad."""
    bad = 0
    for name, step in facts["steps"].items():
        bad += step["ended"] != 0
        print(f"{name:30} {step['seconds']:6} s  {step['ended'] or 'ended'}")  # noqa: T201
    for file in sorted(out.glob("*.json")):
        checks = json.loads(file.read_text(encoding="utf-8")).get("checks", [])
        wrong = [check["name"] for check in checks if not check["good"]]
        bad += len(wrong)
        if checks:
            print(f"{file.stem:30} {len(checks) - len(wrong)} of {len(checks)} good {wrong[:5] or ''}")  # noqa: T201
    return min(bad, 100)


if __name__ == "__main__":
    main()
