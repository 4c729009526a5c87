"""What `doctor` says of MLC's engine: which Python has it, of which versions, and whether it can compile."""

from __future__ import annotations

from collections.abc import Callable

from edge_router.cli.findings import Finding, Found
from edge_router.cli.verbs.running_server import running
from edge_router.config.settings import Config
from edge_router.errors import EngineUnavailable
from edge_router.mlc_python import MlcPython, here, mlc_python

SECTION = "Weak model"
_WAIT_S = 5.0  # a server that is there answers at once
_MOST_BYTES = 1 << 16
_WHEELS = "MLC's wheels (https://llm.mlc.ai/docs/install)"


def _advice(python: str | None) -> str:
    """What helps: a Python of their own, or where one is named already, the right wheels in that."""
    if python is not None:
        return f"put {_WHEELS}, of one release, into that Python, or name another one with mlc.python"
    return (
        f"give {_WHEELS} a Python of their own and name it: "
        "edge-router doctor --set weak.engine=mlc --set mlc.python=PATH"
    )


def mlc(config: Config) -> Found:
    """Its packages and its compiler; `config` says for which device."""
    try:
        python = mlc_python(config.mlc.python)
    except EngineUnavailable as error:
        yield Finding(SECTION, "mlc_llm", f"{error.reason}; {_advice(config.mlc.python)}", "bad")
        return
    yield from told(python, on_processor=config.weak.device == "cpu", why_not=python.why_not_compiling)
    yield from served(config)


def served(config: Config) -> Found:
    """How the process fares in a server that runs with this configuration; nothing where none does."""
    server = running(config)
    process = None if server is None else server.health.get("weak_model")
    if server is None or not isinstance(process, dict) or not isinstance(process.get("restarts"), int):
        return
    times, state = process["restarts"], process.get("state")
    where = f"in the server at {server.at}"
    if state == "running":
        text = f"runs {where}, started again {times} {'time' if times == 1 else 'times'}; its log says why"
        yield Finding(SECTION, "mlc process", text, "note")
    else:
        text = f"has ended {where} and is being started again; its log says why: edge-router serve --debug"
        yield Finding(SECTION, "mlc process", text, "bad")


def told(python: MlcPython, *, on_processor: bool, why_not: Callable[[], str | None]) -> Found:
    """`why_not` says what keeps its compiler from working."""
    version = ".".join(map(str, python.version))
    where = "" if python.executable is None else f", in {python.executable} (Python {version})"
    yield Finding(SECTION, "mlc_llm", f"{python.packages['mlc_llm']}{where}")
    yield _tvm(python)
    ours = python.runs_libraries_of(here())
    yield _compiler(why_not(), _advice(python.executable), ours=ours, on_processor=on_processor)


def _tvm(python: MlcPython) -> Finding:
    held = python.packages["tvm"]
    if len(held.owners) > 1:
        return Finding(
            SECTION,
            "mlc tvm",
            f"{held} both bring the package tvm, and only one is it; {_advice(python.executable)}",
            "bad",
        )
    return Finding(SECTION, "mlc tvm", str(held))


def _compiler(reason: str | None, advice: str, *, ours: bool, on_processor: bool) -> Finding:
    name = "mlc compiler"
    if reason is None:
        also = "; edge-router's own libraries, which are faster, run on the processor" if ours else ""
        return Finding(SECTION, name, f"compiles{also}")
    if ours and on_processor:
        return Finding(
            SECTION, name, f"cannot compile ({reason}), nor need it: edge-router's own libraries run there"
        )
    return Finding(
        SECTION,
        name,
        f"cannot compile ({reason}), as with a TVM that mlc_llm was not made for; {advice}",
        "bad",
    )
