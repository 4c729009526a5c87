"""What systemd, launchd and Windows are told of a program, and that they read what was meant."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import pytest
from table import each

from edge_router.system.background_service import Program, service_for, systemd_unit

ODD = 'a "b" \\c 100% $HOME é\'s'
PROGRAM = Program(
    "edge-router",
    "a title",
    ("/py thon/bin", "-P", "-m", "edge_router", "serve", "--set", ODD),
    PurePosixPath("/home/anna"),  # type: ignore[arg-type]
    {"EDGE_ROUTER_HOME": ODD},
)
HOME = PurePosixPath("/home/anna")
ROWS = (
    ("linux", {}, "1000", "/home/anna/.config/systemd/user/edge-router.service",
     "systemctl --user daemon-reload|systemctl --user enable edge-router.service|"
     "systemctl --user restart edge-router.service",
     "systemctl --user disable --now edge-router.service"),
    ("linux", {"XDG_CONFIG_HOME": "/c"}, "1000", "/c/systemd/user/edge-router.service", None, None),
    ("freebsd", {}, "1000", "/home/anna/.config/systemd/user/edge-router.service", None, None),
    ("darwin", {}, "501", "/home/anna/Library/LaunchAgents/edge-router.plist",
     "launchctl bootout gui/501/edge-router|"
     "launchctl bootstrap gui/501 /home/anna/Library/LaunchAgents/edge-router.plist",
     "launchctl bootout gui/501/edge-router"),
    ("win32", {}, "PC\\anna", "/home/anna/AppData/Local/edge-router/edge-router.xml",
     "schtasks /End /TN edge-router|schtasks /Create /F /TN edge-router /XML "
     "/home/anna/AppData/Local/edge-router/edge-router.xml|schtasks /Run /TN edge-router",
     "schtasks /End /TN edge-router|schtasks /Delete /F /TN edge-router"),
    ("win32", {"LOCALAPPDATA": "/local"}, "anna", "/local/edge-router/edge-router.xml", None, None),
)  # fmt: skip


@each("platform, environ, user, file, install, remove", ROWS)
def test_where_it_goes_and_what_is_run(
    platform: str, environ: dict[str, str], user: str, file: str, install: str | None, remove: str | None
) -> None:
    home = Path(HOME)
    found = service_for(platform, PROGRAM, home=home, environ=environ, user=user)
    assert found.file.as_posix() == file
    if install is not None and remove is not None:
        told = ["|".join(" ".join(step.words) for step in steps) for steps in (found.install, found.remove)]
        assert [words.replace("\\home", "/home") for words in told] == [install, remove]


def test_a_unit_of_systemd() -> None:
    odd = '"a \\"b\\" \\\\c 100%% {}HOME é\'s"'
    lines = systemd_unit(PROGRAM).splitlines()
    command = f'"/py thon/bin" "-P" "-m" "edge_router" "serve" "--set" {odd.format("$$")}'
    assert f"ExecStart={command}" in lines
    assert f"Environment={odd.format('$').replace('a ', 'EDGE_ROUTER_HOME=a ', 1)}" in lines
    assert {"Restart=on-failure", "RestartPreventExitStatus=2", "WantedBy=default.target"} <= set(lines)


@each("platform", [("linux",), ("darwin",), ("win32",)])
def test_what_no_file_can_hold_is_refused_and_hinders_no_removal(platform: str) -> None:
    rows: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
        (("a\nExecStart=evil",), {}),
        (("a", "\x01"), {}),
        (("a", "-m", "b", "\udcff"), {}),
        (("a", "-m", "b"), {"EDGE_ROUTER_WEAK_MODEL": "a\r\nb"}),
    )
    for arguments, variables in rows:
        program = Program("x", "t", arguments, Path("/"), variables)
        found = service_for(platform, program, home=Path(HOME), environ={}, user="a")
        assert found.remove and found.file.name
        with pytest.raises(ValueError, match="line's end"):
            _ = found.content


def test_an_agent_of_launchd() -> None:
    told = plistlib.loads(service_for("darwin", PROGRAM, home=Path(HOME), environ={}, user="501").content)
    assert told["ProgramArguments"] == list(PROGRAM.arguments)
    assert told["EnvironmentVariables"] == PROGRAM.variables
    assert (told["Label"], told["RunAtLoad"]) == ("edge-router", True)
    assert told["KeepAlive"] == {"SuccessfulExit": False}


def test_a_task_of_windows() -> None:
    found = service_for("win32", PROGRAM, home=Path(HOME), environ={}, user="PC\\an & na")
    task = ElementTree.fromstring(found.content)  # which goes by its own encoding
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}

    def text(path: str) -> str:
        found = task.find(path, space)
        assert found is not None, path
        return found.text or ""

    assert text("t:Actions/t:Exec/t:Command") == "/py thon/bin"
    assert text("t:Triggers/t:LogonTrigger/t:UserId") == "PC\\an & na"
    assert text("t:Settings/t:ExecutionTimeLimit") == "PT0S", "it is not ended after three days"
    arguments = text("t:Actions/t:Exec/t:Arguments")
    assert arguments.startswith('-P -c "import os, runpy; os.environ.update(')
    assert arguments.endswith(subprocess.list2cmdline(["serve", "--set", ODD]))
    plain = Program("x", "t", ("py", "-P", "-m", "edge_router"), Path("/"), {})
    assert b"-\0P\0 \0-\0m\0" in service_for("win32", plain, home=Path(HOME), environ={}, user="a").content


@pytest.mark.integration
def test_python_sets_the_variables_of_a_task(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("import os, sys; print(os.environ['ODD'], sys.argv[1:])")
    program = Program("x", "t", (sys.executable, "-m", "told", ODD), tmp_path, {"ODD": ODD})
    from edge_router.system.background_service import _with_variables

    words = _with_variables(program.arguments[1:], program.variables)
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{ODD} {[ODD]}\n"


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_has_nothing_to_say_of_the_unit(tmp_path: Path) -> None:
    arguments = (sys.executable, *PROGRAM.arguments[1:])
    unit = tmp_path / "edge-router.service"
    unit.write_text(systemd_unit(Program("edge-router", "t", arguments, tmp_path, PROGRAM.variables)))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
