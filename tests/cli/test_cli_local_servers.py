"""What the command line tells of servers on this machine, and does with them."""

from __future__ import annotations

import json

import pytest
from local_servers import CLOUD, QWEN, WORDS, LMStudio

from edge_router.api import proposals
from edge_router.cli.verbs import configuration, local_servers
from edge_router.config.settings import Config

pytestmark = pytest.mark.integration

ANSWER = "".join(WORDS)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    """LLVM's view of the processor costs a second; it is tested with the device."""
    monkeypatch.setattr("edge_router.device.llvm.ask_llvm", lambda: ("generic", ("avx2", "sse2")))


@pytest.fixture
def ollama(local_server, monkeypatch):
    """One that is found: its own variable says where it is."""
    server = local_server("ollama")
    monkeypatch.setenv("OLLAMA_HOST", server.address)
    return server


def using(server, model=QWEN):
    return ("-o", "weak.engine=remote", "-o", f"weak.model={model}", "-o", f"weak.base_url={server.address}")


def findings(done, section):
    return {item["name"]: item for item in json.loads(done.out)["findings"] if item["section"] == section}


def test_doctor_lists_what_runs_here_and_says_how_to_use_it(cli, ollama, home):
    found = findings(cli("doctor", "--offline", "--json"), "Local servers")
    [said] = [item for name, item in found.items() if name == ollama.address.removeprefix("http://")]
    assert said["state"] == "ok" and f"Ollama 0.14.2: {QWEN}; use one:" in said["text"]
    assert CLOUD not in said["text"] and "embed" not in said["text"]
    command = said["text"].partition("edge-router ")[2].split()
    assert cli(*command).code == 0
    config = Config.load(home / "config.toml", environ={})
    assert (config.weak.engine, config.weak.model, config.weak.base_url) == ("remote", QWEN, ollama.address)
    done = cli("chat", "hi")
    assert done.code == 0 and done.out.strip() == ANSWER and f"{QWEN} (weak)" in done.err


def test_doctor_shows_the_model_that_is_used(cli, ollama):
    cli("chat", "hi", *using(ollama))
    found = findings(cli("doctor", "--offline", "--json", *using(ollama)), "Weak model")
    assert found["server"]["text"] == f"Ollama 0.14.2 at {ollama.address}, on this machine"
    said = found["model"]["text"]
    assert f"{QWEN} (context 4096 of 40960, file 2.3 GiB, takes 3.7 GiB of memory that is not ours" in said
    assert "weak.context_window_size" in found["context"]["text"]
    asked = len(ollama.chats())
    assert asked == 1, "looking asks the model nothing"


@pytest.mark.parametrize(
    ("model", "words"),
    [("nosuch:1b", "ollama pull nosuch:1b"), (CLOUD, "runs at https://ollama.com:443, not on this machine")],
)
def test_doctor_says_what_is_wrong_with_it(cli, ollama, model, words):
    done = cli("doctor", "--offline", "--json", *using(ollama, model))
    told = findings(done, "Weak model")
    assert done.code == 1 and any(item["state"] == "bad" and words in item["text"] for item in told.values())


def test_what_to_do_is_said_where_it_is_not_there(cli, local_server):
    server = local_server("ollama")
    server.close()
    done = cli("chat", "hi", *using(server))
    assert done.code == 1 and "Connection refused" in done.err
    assert done.err.strip().endswith("edge-router config set weak.engine= weak.model=")
    told = findings(cli("doctor", "--offline", "--json", *using(server)), "Weak model")
    assert told["server"]["state"] == "bad"


def test_a_password_in_its_address_is_shown_nowhere(cli):
    asked = ("-o", "weak.base_url=http://me:sesame-open@127.0.0.1:9")
    for words in (("config", "show", *asked), ("doctor", "--offline", *asked, "-o", "weak.engine=remote")):
        done = cli(*words)
        assert "sesame" not in done.out + done.err and "127.0.0.1:9" in done.out


def test_another_model_of_the_server_may_be_named(cli, ollama):
    done = cli("chat", "hi", "--model", "other:1b", *using(ollama))
    assert done.code == 1 and "has no model 'other:1b'" in done.err and QWEN in done.err
    assert CLOUD not in done.err  # which would be refused


def test_a_socket_that_is_not_there_is_named(cli, tmp_path):
    done = cli("chat", "hi", "-o", "weak.engine=remote", "-o", f"weak.base_url=unix:{tmp_path}/gone.sock")
    assert done.code == 1 and f"(unix:{tmp_path}/gone.sock: No such file" in done.err


def test_plan_tells_what_the_server_holds(cli, ollama):
    cli("chat", "hi", *using(ollama))
    assert "memory that is not ours" not in cli("plan", "--gpu", "RTX 3060", *using(ollama)).err
    done = cli("plan", *using(ollama), "-o", "weak.device=cpu")
    said = " ".join(done.err.split())
    assert f"{QWEN} in Ollama 0.14.2, which holds 3.7 GiB for it, 2.8 GiB of it on a GPU" in said, said
    assert "not ours" in said and "Qwen3-4B" in done.out


@pytest.mark.parametrize("answer", [True, False])
def test_config_init_offers_it_to_a_person(cli, home, local_server, monkeypatch, answer):
    server, asked = local_server("lmstudio"), []
    monkeypatch.setattr(local_servers, "found", lambda: local_servers_of(server))
    monkeypatch.setattr(configuration, "is_someone_there", lambda: True)
    monkeypatch.setattr(proposals, "propose", lambda *_, **__: None)

    def confirm(question, **_):
        asked.append(question)
        return answer

    monkeypatch.setattr(configuration.typer, "confirm", confirm)
    done = cli("config", "init")
    assert done.code == 0 and asked == [f"Let {LMStudio.name} there be the weak model?"]
    config = Config.load(home / "config.toml", environ={})
    assert config.weak.engine == ("remote" if answer else "auto")
    assert config.weak.base_url == (server.address if answer else None)


def test_config_init_offers_nothing_in_place_of_what_was_chosen(cli, home, local_server, monkeypatch):
    monkeypatch.setattr(local_servers, "found", lambda: pytest.fail("something was chosen"))
    monkeypatch.setattr(configuration, "is_someone_there", lambda: True)
    monkeypatch.setattr(proposals, "propose", lambda *_, **__: None)
    assert cli("config", "init", "-o", "weak.model=Qwen3-4B").code == 0


def local_servers_of(*servers):
    from edge_router.engines.local_server.looking import discover

    return discover([server.port for server in servers], environ={})
