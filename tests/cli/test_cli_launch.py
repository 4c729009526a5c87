"""`launch`: what each client is told, in which shell's words, into which file; and the client itself, started."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from table import each

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.cli.launch import clients, shells
from edge_router.cli.launch.client_files import Unmergeable, merged, save
from edge_router.cli.launch.clients import CLIENTS, Target
from edge_router.cli.launch.shells import Shell
from edge_router.cli.verbs import launching
from edge_router.config.sections import ServerConfig
from edge_router.errors import ConfigError, NoServer

URL = "http://127.0.0.1:6060"
KEY = "a-key-of-the-server"
OPEN, LOCKED = Target(URL, "weak"), Target(URL, "weak", "EDGE_ROUTER_API_KEY")
HOME = {"HOME": "/home/ada", "USERPROFILE": "/home/ada", "LLM_USER_PATH": "/home/ada/llm"}


def told(name: str, target: Target) -> str:
    """All that a client is told, as one text."""
    client = clients.find(name)
    return json.dumps([clients.variables(client, target, HOME), clients.arguments(client, target, HOME)])


@each("client", CLIENTS)
def test_every_client_is_told_the_server_and_the_model_one_way_or_another(client):
    words = told(client.name, OPEN)
    if client.file is not None:
        content = clients.content(client, OPEN, HOME)
        assert URL in json.dumps(content) and "weak" in json.dumps(content)
    if client.file is None or not client.file.needed:
        assert URL in words and "weak" in words
    assert "$" not in words and "null" not in words


@each(
    "name, with_key, without_key",
    [
        ("codex", "env_key=EDGE_ROUTER_API_KEY", "env_key"),
        ("opencode", "{env:EDGE_ROUTER_API_KEY}", "apiKey"),
    ],
)
def test_the_variable_of_the_key_is_named_only_where_the_server_asks_for_one(name, with_key, without_key):
    assert with_key in told(name, LOCKED)
    assert without_key not in told(name, OPEN)


def test_claude_code_is_told_all_that_it_needs():
    client = clients.find("claude")
    assert clients.variables(client, OPEN, HOME) == {
        "ANTHROPIC_BASE_URL": URL,
        "ANTHROPIC_MODEL": "weak",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "weak",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": "1",
    }
    assert client.key_variable == "ANTHROPIC_AUTH_TOKEN" and "ANTHROPIC_API_KEY" in client.without


def test_what_the_user_says_stands_behind_ours_and_so_wins():
    codex, goose = clients.find("codex"), clients.find("goose")
    assert clients.arguments(codex, OPEN, HOME, ("exec", "hi"))[-2:] == ["exec", "hi"]
    assert clients.arguments(goose, OPEN, HOME) == ["session"]
    assert clients.arguments(goose, OPEN, HOME, ("run",)) == ["run"]


def test_a_client_is_found_by_its_programs_name_as_well():
    assert clients.find("cn") is clients.find("Continue")


@each(
    "environ, host, listed",
    [
        ({}, "127.0.0.1", None),
        ({"NO_PROXY": "a.example"}, "127.0.0.1", None),
        ({"https_proxy": ""}, "127.0.0.1", None),
        ({"HTTP_PROXY": "http://p"}, "127.0.0.1", "127.0.0.1"),
        ({"all_proxy": "socks5://p", "NO_PROXY": "a, b", "no_proxy": "b,c"}, "127.0.0.1", "a,b,c,127.0.0.1"),
        ({"HTTP_PROXY": "http://p"}, "[::1]", "[::1],::1"),
    ],
)
def test_a_proxy_gets_none_of_the_questions(environ, host, listed):
    found = clients.variables(clients.find("goose"), Target(f"http://{host}:6060"), environ)
    assert found.get("NO_PROXY") == listed


@each(
    "host, port, url",
    [
        ("127.0.0.1", 6060, URL),
        ("localhost", 80, "http://localhost:80"),
        ("0.0.0.0", 6060, URL),
        ("::", 6060, "http://[::1]:6060"),
        ("[::1]", 6060, "http://[::1]:6060"),
        ("192.168.1.7", 6060, "http://192.168.1.7:6060"),
        ("127.0.0.1", 0, None),
        ('a"; b', 6060, None),
    ],
)
def test_the_address_is_one_that_this_machine_reaches(host, port, url):
    server = ServerConfig(host=host, port=port)
    if url is None:
        with pytest.raises(ConfigError):
            clients.address(server)
    else:
        assert clients.address(server) == url


NASTY = """it's "so" $HOME `x` & {"a": "b c"}"""


def test_each_shell_reads_the_words_as_they_are_meant():
    def lines(shell: Shell) -> list[str]:
        return shells.lines(
            shell, variables={"A": NASTY}, copied={"B": "C"}, removed=["D", "E"], commands=[["run", NASTY]]
        )

    export, copied, unset, command = lines(Shell.SH)
    assert shlex.split(export) == ["export", f"A={NASTY}"] and copied == 'export B="$C"'
    assert unset == "unset D E" and shlex.split(command) == ["run", NASTY]
    doubled = NASTY.replace("'", "''")
    assert lines(Shell.POWERSHELL) == [
        f"$env:A = '{doubled}'",
        "$env:B = $env:C",
        "Remove-Item Env:D, Env:E -ErrorAction SilentlyContinue",
        f"& 'run' '{doubled}'",
    ]
    assert lines(Shell.CMD)[:4] == [f'set "A={NASTY}"', 'set "B=%C%"', 'set "D="', 'set "E="']


@pytest.mark.skipif(sys.platform == "win32", reason="asks a POSIX shell")
def test_a_posix_shell_reads_them_so():
    show = 'import os, sys; print([os.environ.get(name) for name in "ABD"], sys.argv[1:])'
    lines = shells.lines(
        Shell.SH,
        variables={"A": NASTY},
        copied={"B": "C"},
        removed=["D"],
        commands=[[sys.executable, "-c", show, NASTY]],
    )
    environ = {**os.environ, "C": "copied", "D": "there"}
    done = subprocess.run(
        ["sh", "-c", "\n".join(lines)], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{[NASTY, 'copied', None]} {[NASTY]}"


def test_every_word_for_a_batch_file_is_in_quotes():
    line = shells.for_batch_file(r"C:\npm\claude.cmd", ["-p", 'a & "b" | c'])
    assert line == r'"C:\npm\claude.cmd" "-p" "a & ""b"" | c"'


# ---- files -------------------------------------------------------------------------------------------------


def test_json_keeps_what_was_there_and_the_same_again_changes_nothing():
    content = {"env": {"A": "1", "B": None}, "model": "weak"}
    before = '{"permissions": ["é"], "env": {"A": "0", "B": "2", "C": "3"}, "model": "x"}'.encode()
    after = merged(before, content)
    assert json.loads(after) == {"permissions": ["é"], "env": {"A": "1", "C": "3"}, "model": "weak"}
    assert list(json.loads(after)) == ["permissions", "env", "model"]
    assert merged(after, content) == after
    assert json.loads(merged(None, content)) == {"env": {"A": "1"}, "model": "weak"}
    assert json.loads(merged(b"\xef\xbb\xbf{}", content)) == json.loads(merged(b"", content))


def test_json_that_says_so_already_keeps_its_looks():
    before = b'{"model":   "weak"}'
    assert merged(before, {"model": "weak"}) == before


@each(
    "before, content, why",
    [
        (b"{// a comment\n}", {"a": "b"}, "no plain JSON"),
        (b'{"a": 1, "a": 2}', {"a": "b"}, "twice"),
        (b"[1]", {"a": "b"}, "object was expected"),
        (b"\xff\xfe", {"a": "b"}, "not UTF-8"),
        (b'{"env": {"ELSEWHERE": "1"}}', {"a": "b"}, "sets ELSEWHERE in its env"),
        (b"model: mine\n", "model: ours\n", "sets model itself"),
    ],
)
def test_what_cannot_be_added_to_is_refused(before, content, why):
    with pytest.raises(Unmergeable, match=why):
        merged(before, content, elsewhere=["ELSEWHERE"])


def test_a_part_of_a_text_gives_way_to_the_next_one():
    before = b"# mine\ndark-mode: true"
    first = merged(before, "model: weak\nbase: a\n")
    assert first.startswith(before + b"\n# ") and b"\nmodel: weak\nbase: a\n# " in first
    assert merged(first, "model: weak\nbase: a\n") == first
    second = merged(first + b"behind: it\n", "model: strong\n")
    assert b"weak" not in second and b"model: strong\n" in second
    assert second.startswith(before) and second.endswith(b"behind: it\n")


def test_items_of_a_list_stand_as_deep_as_the_others():
    after = merged(b"  - model_id: mine\n", "- model_id: ours\n  model_name: weak\n").decode()
    assert "\n  - model_id: ours\n    model_name: weak\n" in after


def test_the_copy_is_of_what_was_there_before_us_and_as_private(tmp_path):
    file = tmp_path / "theirs" / "settings.json"
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    file.chmod(0o600)
    backup = save(file, b"first")
    assert backup is not None and backup.read_text(encoding="utf-8") == "{}"
    assert save(file, b"second") == backup and backup.read_text(encoding="utf-8") == "{}"
    assert save(file, b"second") is None and file.read_bytes() == b"second"
    if sys.platform != "win32":
        assert {stat.S_IMODE(path.stat().st_mode) for path in (file, backup)} == {0o600}
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, backup.name]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_stays_one(tmp_path):
    real, link = tmp_path / "dotfiles" / "settings.json", tmp_path / "settings.json"
    real.parent.mkdir()
    real.write_text("{}", encoding="utf-8")
    link.symlink_to(real)
    save(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"


# ---- the verb ----------------------------------------------------------------------------------------------


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    """A home of its own, without a program or another's variables."""
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "EDGE_ROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "user"
    folder.mkdir()
    for name in ("HOME", "USERPROFILE", "LLM_USER_PATH"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PATH", str(folder / "bin"))
    return folder


def test_without_a_name_all_are_listed_with_what_is_here(cli, user):
    fake(user / "bin", "codex")
    done = cli("launch")
    lines = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert done.code == 0 and list(lines) == [client.name for client in CLIENTS]
    assert str(user / "bin") in lines["codex"] and "npm install -g opencode-ai" in lines["opencode"]
    assert done.err.strip().endswith("edge-router launch codex")
    listed = {one["name"]: one["program"] for one in json.loads(cli("launch", "--json").out)}
    assert listed["claude"] is None and listed["codex"].startswith(str(user))


def test_an_unknown_name_is_told_with_the_nearest(cli, user):
    done = cli("launch", "opencoda")
    assert done.code == 2 and "opencode" in done.err and done.err.strip().endswith("edge-router launch")


@each("client", CLIENTS)
@each("shell", list(Shell))
def test_the_key_is_in_nothing_that_is_printed_or_written(cli, user, monkeypatch, client, shell):
    monkeypatch.setenv("EDGE_ROUTER_API_KEY", KEY)
    runs = [cli("launch", client.name, "--print", "--shell", shell), cli("launch", client.name, "--json")]
    if client.file is not None:
        runs.append(cli("launch", client.name, "--write"))
    assert {done.code for done in runs} == {0}
    assert all(KEY not in done.out + done.err for done in runs)
    assert all(KEY not in file.read_text("utf-8") for file in user.rglob("*") if file.is_file())
    assert client.file is None or "EDGE_ROUTER_API_KEY" in runs[-1].err + clients.place(
        client, os.environ
    ).read_text("utf-8")


def test_where_the_client_is_not_here_the_lines_are_printed(cli, user):
    done = cli("launch", "claude", "--", "-p", "hi")
    assert done.code == 127 and "npm install -g @anthropic-ai/claude-code" in done.err
    assert done.out == cli("launch", "claude", "--print", "--shell", shells.usual(), "--", "-p", "hi").out
    assert URL in done.out and done.out.rstrip().endswith("hi" if os.name != "nt" else "'hi'")


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="asks a POSIX shell")
@each("name, file", [("llm", "extra-openai-models.yaml"), ("continue", ".continue/edge_router.yaml")])
def test_what_is_printed_is_all_that_a_client_needs(cli, user, name, file):
    printed = cli("launch", name, "--print", "--shell", "sh", "-m", "strong", "-o", "server.port=7000")
    fake(user / "bin", clients.find(name).program)
    fake(user / "bin", "edge-router", "import sys; from edge_router.cli.main import main; main()")
    subprocess.run(["/bin/sh", "-ec", printed.out], check=True, capture_output=True)
    written = (user / file).read_text("utf-8")
    assert "strong" in written and "http://127.0.0.1:7000/v1" in written
    before = json.loads(cli("launch", name, "--json").out)["before"]
    assert before == [["edge-router", "launch", name, "--model", "auto", "--write"]]


def test_writing_keeps_what_was_there_and_a_copy(cli, user):
    file = user / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text('{"permissions": {"allow": ["Bash(ls)"]}}', encoding="utf-8")
    done = cli("launch", "claude", "--write", "-m", "strong")
    settings = json.loads(file.read_text("utf-8"))
    assert done.out.strip() == str(file) and f"{file.name}.before-edge-router" in done.err
    assert settings["permissions"] == {"allow": ["Bash(ls)"]}
    assert settings["env"]["ANTHROPIC_MODEL"] == "strong"
    assert settings["env"]["ANTHROPIC_AUTH_TOKEN"] == clients.NO_KEY
    again = cli("launch", "claude", "--write", "-m", "strong")
    assert "already" in again.err and json.loads(file.read_text("utf-8")) == settings


def test_a_key_takes_out_what_stood_for_none(cli, user, monkeypatch):
    cli("launch", "claude", "--write")
    monkeypatch.setenv("EDGE_ROUTER_API_KEY", KEY)
    cli("launch", "claude", "--write")
    assert "ANTHROPIC_AUTH_TOKEN" not in json.loads((user / ".claude" / "settings.json").read_text())["env"]


def test_a_file_that_leads_elsewhere_is_left_as_it_is(cli, user):
    file = user / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text('{"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}}', encoding="utf-8")
    done = cli("launch", "claude", "--write")
    assert done.code == 1 and "CLAUDE_CODE_USE_BEDROCK" in done.err
    assert list(file.parent.iterdir()) == [file] and "BASE_URL" not in file.read_text("utf-8")


def test_a_client_without_a_file_is_printed(cli, user):
    done = cli("launch", "goose", "--write")
    assert done.code == 2 and "edge-router launch goose --print" in done.err


def test_a_client_that_is_told_by_its_file_only_says_so(cli, user):
    fake(user / "bin", "llm")
    done = cli("launch", "llm")
    assert done.code == 1 and done.err.strip().endswith("edge-router launch llm --write")
    cli("launch", "llm", "--write")
    assert "name: strong" in (user / "extra-openai-models.yaml").read_text("utf-8")


@each("words", [("-m", "a b"), ("--write", "--print"), ("--write", "--serve")])
def test_what_makes_no_sense_is_refused_before_anything_is_done(cli, user, words):
    assert cli("launch", "claude", *words).code == 2 and not list(user.iterdir())


# ---- the client itself -------------------------------------------------------------------------------------


FAKE = """
import json, os, sys, urllib.request
key = os.environ.get("ANTHROPIC_AUTH_TOKEN")
request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/models", headers={"x-api-key": key})
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
models = [model["id"] for model in json.load(opener.open(request, timeout=30))["data"]]
names = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "NO_PROXY", "MINE")
print(json.dumps([sys.argv[1:], {name: os.environ.get(name) for name in names}, models]))
sys.exit(7)
"""


HEARS_CTRL_C = """
import sys, time
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("heard", flush=True)
    time.sleep(0.2)
    sys.exit(3)
"""


def fake(folder: Path, name: str, script: str = "") -> None:
    """A program for the PATH."""
    folder.mkdir(exist_ok=True)
    if os.name == "nt":
        (folder / f"{name}.py").write_text(script, encoding="utf-8")
        batch = f'@"{sys.executable}" "%~dp0{name}.py" %*\r\n'
        (folder / f"{name}.cmd").write_text(batch, encoding="utf-8")
        return
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
    file.chmod(0o755)


@contextmanager
def answering(status: int, body: object) -> Iterator[int]:
    """Something that answers at a port."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            return None

        def do_GET(self) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            code = status
            self.send_response(code)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listing(**models: int | None) -> dict[str, Any]:
    data = [
        {"id": name, "owned_by": "edge_router", "context_length": length} for name, length in models.items()
    ]
    return {"object": "list", "data": data}


@pytest.fixture
def launched(program: Callable[..., Any], environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """`launched(port, "--", ...)`: `edge-router launch claude` as a process, with a fake `claude` on the PATH."""
    fake(tmp_path / "bin", "claude", FAKE)
    environ = {
        **environment,
        "PATH": os.pathsep.join([str(tmp_path / "bin"), environment.get("PATH", "")]),
        "ANTHROPIC_API_KEY": "theirs",
        "EDGE_ROUTER_API_KEY": KEY,
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
        "no_proxy": "",
        "MINE": "stays",
    }

    def call(port: int, *words: str) -> Any:
        return program("launch", "claude", "-o", f"server.port={port}", *words, env=environ)

    return call


@pytest.mark.integration
def test_the_client_runs_with_all_that_it_is_told_and_its_exit_code_is_ours(launched):
    with answering(200, listing(auto=4096, weak=4096)) as port:
        done = launched(port, "--", "-p", "what's & up")
    arguments, variables, models = json.loads(done.stdout)
    assert done.returncode == 7 and arguments == ["-p", "what's & up"] and models == ["auto", "weak"]
    assert variables == {
        "ANTHROPIC_API_KEY": None,
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "NO_PROXY": "127.0.0.1",
        "MINE": "stays",
    }
    assert "takes 4,096" in done.stderr and KEY not in done.stdout + done.stderr


@pytest.mark.integration
def test_a_server_of_its_own_ends_with_the_client(launched):
    port = free_port()
    done = launched(port, "--serve", "-o", "weak.engine=scripted", "-o", "router.name=length", "--", "hi")
    assert done.returncode == 7, done.stderr
    arguments, _, models = json.loads(done.stdout)
    assert arguments == ["hi"] and {"auto", "weak"} <= set(models)
    with pytest.raises(NoServer):
        launching.models_at(f"http://127.0.0.1:{port}", None, "X", "claude")


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX terminal")
def test_ctrl_c_is_the_clients_own_matter(terminal, environment, tmp_path):
    fake(tmp_path / "bin", "claude", HEARS_CTRL_C)
    environ = {**environment, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"}
    served = ("--serve", "-o", "weak.engine=scripted", "-o", "router.name=length")
    shown = terminal("launch", "claude", "-o", f"server.port={free_port()}", *served, env=environ)
    shown.wait_for("begun")
    shown.type("\x03")
    shown.wait_for("heard")
    code, rest = shown.end()
    assert code == 3 and "Traceback" not in rest and "error" not in rest


@pytest.mark.integration
def test_without_a_server_of_ours_the_client_is_not_started(launched):
    done = launched(free_port())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().endswith("edge-router launch claude --serve")
    foreign = [(200, {"data": []}), (200, b"<html>"), (404, {}), (200, {"data": [{"id": "gpt"}]}), (200, [1])]
    for status, body in foreign:
        with answering(status, body) as port, pytest.raises(NoServer, match="another program"):
            launching.models_at(f"http://127.0.0.1:{port}", KEY, "X", "claude")


@pytest.mark.integration
def test_a_key_that_is_wrong_is_told_before_the_client_starts(launched):
    with answering(401, listing(auto=None)) as port:
        done = launched(port)
        assert (done.returncode, done.stdout) == (1, "") and KEY not in done.stderr
        assert "EDGE_ROUTER_API_KEY holds another one" in done.stderr


@pytest.mark.integration
def test_a_model_that_the_server_does_not_know_is_told_with_the_nearest(launched):
    with answering(200, listing(auto=None, weak=None)) as port:
        done = launched(port, "-m", "waek")
        assert done.returncode == 2 and "the nearest is weak" in done.stderr
        assert launched(port, "-m", "router-mf-0.3").returncode == 7


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@pytest.mark.integration
def test_a_server_that_breaks_while_its_client_runs_says_so() -> None:
    class Breaking(Controller):
        def close(self) -> None:
            super().close()
            raise RuntimeError("it broke")

    served = Breaking(
        Config().replace(**{"server.port": 0}), weak=ScriptedEngine(), router=ScriptedRouter(lambda text: 0.1)
    )
    with pytest.raises(RuntimeError, match="it broke"), launching.serving(served, None) as address:
        assert address.startswith("http://127.0.0.1:")
