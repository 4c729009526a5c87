"""A program that runs from login on: what systemd, launchd and Windows have to be told of it. Pure.

After systemd.service(5) and systemctl(1) of systemd 252, launchd.plist(5), and Task Scheduler's schema 1.2.
"""

from __future__ import annotations

import plistlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from edge_router.records import dataclass

WRONG = 2  # the exit code of a program whose settings are wrong, which starting it again would not mend
_PAUSE_S = 5


@dataclass(frozen=True, slots=True)
class Program:
    """`arguments` begin with the interpreter; `variables` are set beside those of the session."""

    name: str
    title: str
    arguments: tuple[str, ...]
    folder: Path  # it runs in
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the system's. One that is not `needed` may fail: what it ends need not run."""

    words: tuple[str, ...]
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Service:
    """`content`, made when it is asked for, goes to `file`; then `install` is run, in the end `remove`,
    `file` deleted and `after` run.

    `check` succeeds where the system can keep programs for this user.
    """

    system: str
    file: Path
    made: Callable[[], bytes]
    check: Step
    install: tuple[Step, ...]
    remove: tuple[Step, ...]
    after: tuple[Step, ...] = ()

    @property
    def content(self) -> bytes:
        """Raises `ValueError` for what cannot stand in it."""
        return self.made()


def service_for(
    platform: str, program: Program, *, home: Path, environ: Mapping[str, str], user: str
) -> Service:
    """As `platform` (`sys.platform`) has them. `user`: on macOS a number, on Windows DOMAIN\\NAME."""
    if platform == "darwin":
        return _launchd(program, home / "Library" / "LaunchAgents" / f"{program.name}.plist", user)
    if platform == "win32":
        local = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        return _windows(program, local / program.name / f"{program.name}.xml", user)
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return _systemd(program, config / "systemd" / "user" / f"{program.name}.service")


def _checked(program: Program) -> Program:
    """Raises `ValueError` for letters that the files of these systems cannot hold."""
    variables = [f"{name}={value}" for name, value in program.variables.items()]
    for word in (*program.arguments, str(program.folder), *variables):
        if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in word):
            raise ValueError(f"{word!r} holds a line's end, or bytes that are no text")
    return program


# ---- systemd ----------------------------------------------------------------------------------------------


def _systemd(program: Program, file: Path) -> Service:
    def control(*words: str, needed: bool = True) -> Step:
        return Step(("systemctl", "--user", *words), needed)

    unit = file.name
    return Service(
        "systemd",
        file,
        lambda: systemd_unit(_checked(program)).encode(),
        control("show-environment"),
        (control("daemon-reload"), control("enable", unit), control("restart", unit)),
        (control("disable", "--now", unit, needed=False),),
        (control("daemon-reload", needed=False), control("reset-failed", unit, needed=False)),
    )


def systemd_unit(program: Program) -> str:
    """A unit of the user's."""
    variables = [f"Environment={_unit_word(f'{name}={value}')}" for name, value in program.variables.items()]
    return "\n".join(
        [
            "[Unit]",
            f"Description={program.title}",
            "StartLimitIntervalSec=300",
            "StartLimitBurst=5",
            "",
            "[Service]",
            "Type=exec",
            f"WorkingDirectory={_escaped(str(program.folder))}",
            *variables,
            f"ExecStart={' '.join(_unit_word(word, is_command=True) for word in program.arguments)}",
            "Restart=on-failure",
            f"RestartSec={_PAUSE_S}",
            f"RestartPreventExitStatus={WRONG}",
            "NoNewPrivileges=yes",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def _unit_word(word: str, *, is_command: bool = False) -> str:
    """In quotes; systemd puts values in the place of %x, and in commands of $X."""
    told = _escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{told.replace("$", "$$") if is_command else told}"'


def _escaped(word: str) -> str:
    return word.replace("%", "%%")


# ---- launchd ----------------------------------------------------------------------------------------------


def _launchd(program: Program, file: Path, user: str) -> Service:
    domain = f"gui/{user}"
    end = Step(("launchctl", "bootout", f"{domain}/{program.name}"), needed=False)
    begin = Step(("launchctl", "bootstrap", domain, str(file)))
    check = Step(("launchctl", "print", domain))
    return Service("launchd", file, lambda: launchd_agent(_checked(program)), check, (end, begin), (end,))


def launchd_agent(program: Program) -> bytes:
    """A property list. launchd starts again what a crash has ended, and knows no exit code to leave alone."""
    return plistlib.dumps(
        {
            "Label": program.name,
            "ProgramArguments": list(program.arguments),
            "EnvironmentVariables": dict(program.variables),
            "WorkingDirectory": str(program.folder),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 30,
            "ProcessType": "Interactive",  # Background would slow its answers
        },
        sort_keys=False,
    )


# ---- Windows ----------------------------------------------------------------------------------------------


def _windows(program: Program, file: Path, user: str) -> Service:
    def tasks(verb: str, *words: str, needed: bool = True) -> Step:
        return Step(("schtasks", verb, *words), needed)

    name = ("/TN", program.name)
    return Service(
        "Task Scheduler",
        file,
        lambda: windows_task(_checked(program), user).encode("utf-16"),
        tasks("/Query", "/FO", "LIST"),
        (
            tasks("/End", *name, needed=False),
            tasks("/Create", "/F", *name, "/XML", str(file)),
            tasks("/Run", *name),
        ),
        (tasks("/End", *name, needed=False), tasks("/Delete", "/F", *name, needed=False)),
    )


def windows_task(program: Program, user: str) -> str:
    """A task in XML, of which variables are no part: Python sets them itself."""
    command, *arguments = program.arguments
    if program.variables:
        arguments = _with_variables(arguments, program.variables)
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{escape(program.title)}</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{escape(user)}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{escape(user)}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>5</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{escape(command)}</Command>
      <Arguments>{escape(subprocess.list2cmdline(arguments))}</Arguments>
      <WorkingDirectory>{escape(str(program.folder))}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


def _with_variables(arguments: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """`-m MODULE` becomes a line that sets them and runs the module."""
    at = arguments.index("-m")
    module = arguments[at + 1]
    run = f"runpy.run_module({module!r}, alter_sys=True, run_name='__main__')"
    line = f"import os, runpy; os.environ.update({dict(variables)!r}); {run}"
    return [*arguments[:at], "-c", line, *arguments[at + 2 :]]
