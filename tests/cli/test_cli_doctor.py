"""`doctor`: what is here, what is wrong and what mends it."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.catalog import find_model
from edge_router.cli.chat import building
from edge_router.cli.verbs import launching, mlc_checks, remote_checks
from edge_router.engines.remote.probe import Probe
from edge_router.errors import StrongTimeout
from edge_router.hub import target_of
from edge_router.mlc_python import MlcPython, Package, here
from edge_router.routing.confidence import gate_store
from edge_router.routing.confidence.gate import Gate, LogisticRegression
from edge_router.store import tool_skill

pytestmark = pytest.mark.integration

MODEL = "SmolLM2-135M-Instruct"
MLC_LLM = Package(True, (("mlc-llm-nightly", "0.21.dev3"),), "")


@pytest.fixture
def not_built(monkeypatch):
    monkeypatch.setattr(building, "is_ready", lambda config, paths: False)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    """LLVM's view of the processor costs a second; it is tested with the device."""
    monkeypatch.setattr("edge_router.device.llvm.ask_llvm", lambda: ("generic", ("avx2", "sse2")))


def fetched(paths) -> Path:
    place = target_of(find_model(MODEL).source, paths.downloads)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"w" * 1000)
    return place


def findings(done) -> dict[tuple[str, str], dict[str, str]]:
    return {(item["section"], item["name"]): item for item in json.loads(done.out)["findings"]}


def test_doctor_says_what_is_here(cli, not_built, paths):
    done = cli("doctor", "--offline")
    assert done.code == 0, done.out
    for words in (
        "This machine",
        "apache-tvm",
        str(paths.downloads),
        "Router",
        "scoring",
        "edge-router compile",
    ):
        assert words in done.out, words
    assert "* works" in done.err and "! is wrong" not in done.err


def test_doctor_json(cli, not_built):
    done = cli("doctor", "--offline", "--json")
    found = findings(done)
    assert json.loads(done.out)["ok"] is True
    assert found["Weak model", "compiled"]["state"] == "note"
    assert "edge-router models pull" in found["Weak model", "weights"]["text"]
    assert found["This machine", "extensions"]["text"] == "avx2"
    said = found["Strong model", "model"]["text"]
    assert "none configured" in said and said.endswith("edge-router config set strong.model=NAME")


def test_doctor_finds_weights_and_what_is_built(cli, monkeypatch, paths):
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    weights = fetched(paths)
    found = findings(cli("doctor", "--offline", "--json"))
    assert found["Weak model", "compiled"]["state"] == "ok"
    assert found["Weak model", "weights"]["text"] == f"{weights}, 1000 B"


def test_doctor_says_whether_unsure_answers_can_be_told(cli, monkeypatch, paths):
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    monkeypatch.setattr(building, "weights_key", lambda config, paths: "a" * 32)
    asked = ("doctor", "--offline", "--json", "-o")
    assert ("Weak model", "confidence") not in findings(cli(*asked, "weak.threads=1"))
    found = findings(cli(*asked, "weak.min_confidence=0.4"))["Weak model", "confidence"]
    assert found["state"] == "note" and "calibrate --confidence" in found["text"]
    heads = (
        LogisticRegression((), 0.0),
        LogisticRegression((1.0, 1.0), 0.0),
        LogisticRegression((1.0, 1.0, 1.0), 0.0),
    )
    gate_store.keep(Gate(8, (), *heads), paths, "a" * 32, {"model": MODEL})
    found = findings(cli(*asked, "weak.min_confidence=0.4"))["Weak model", "confidence"]
    assert found["state"] == "ok" and "after 8 tokens at most" in found["text"]


def test_doctor_says_whether_the_weak_model_calls_tools(cli, monkeypatch, paths):
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    monkeypatch.setattr(building, "weights_key", lambda config, paths: "a" * 32)

    def said(*options):
        return (
            findings(cli("doctor", "--offline", "--json", *options))
            .get(("Weak model", "tools"), {})
            .get("text")
        )

    assert said() is None
    tool_skill.keep(tool_skill.Skill(MODEL, 80, 1.0, 0.9, 0.9, 0.9), paths, "b" * 32)
    assert "calibrate --tools" in said()
    tool_skill.keep(tool_skill.Skill(MODEL, 80, 1.0, 0.9, 0.9, 0.9), paths, "a" * 32)
    assert said() == "calls them, 100% of the right ones" and "weak.tools" in said("-o", "weak.tools=no")
    tool_skill.keep(tool_skill.Skill(MODEL, 80, 1.0, 0.2, 0.9, 0.1), paths, "a" * 32)
    assert said() == "leaves them to the strong model: too few arguments and results were right"


def test_doctor_of_a_broken_configuration(cli):
    done = cli("doctor", "-o", "router.threshold=7")
    assert done.code == 1 and "! file" in done.out and "must be between 0 and 1" in done.out


@pytest.mark.parametrize(
    ("setting", "section", "words"),
    [
        ("router.name=mff", "Router", "there is no router named 'mff', the nearest is mf"),
        ("weak.model=nope", "Weak model", "there is no model named 'nope'"),
    ],
)
def test_doctor_goes_on_after_something_broken(cli, not_built, setting, section, words):
    done = cli("doctor", "--offline", "--json", "-o", setting)
    assert done.code == 1
    broken = [item for item in json.loads(done.out)["findings"] if item["state"] == "bad"]
    assert [item["section"] for item in broken] == [section] and words in broken[0]["text"]
    assert findings(done)["Strong model", "model"]


def test_doctor_on_the_strong_model(cli, not_built, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    strong = ("-o", "strong.model=gpt-x", "-o", "strong.api_key_env=MY_KEY")
    done = cli("doctor", "--offline", "--json", *strong)
    found = findings(done)
    assert found["Strong model", "model"]["text"] == "gpt-x at https://api.openai.com/v1"
    assert found["Strong model", "key"]["text"] == "from the environment variable MY_KEY"
    assert "sk-very-secret" not in done.out
    assert "switched off" in found["Strong model", "reachable"]["text"]


def test_doctor_without_a_key_for_openai(cli, not_built, monkeypatch):
    from edge_router.engines.remote import keys as key_lookup

    monkeypatch.setattr(key_lookup, "_system_keyring", lambda service, name: None)
    done = cli("doctor", "--offline", "-o", "strong.model=gpt-x")
    assert done.code == 1 and "keyring set edge_router OPENAI_API_KEY" in done.out


def test_doctor_tries_the_strong_models_address(cli, not_built, monkeypatch):
    import socket

    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        given = ("-o", "strong.model=x", "-o", f"strong.base_url=http://127.0.0.1:{port}/v1", "--json")
        found = findings(cli("doctor", *given, "-o", "strong.timeout_s=0.2"))
        assert "connects in" in found["Strong model", "reachable"]["text"]
        assert "no answer within 0.2 s" in found["Strong model", "access"]["text"]
    found = findings(cli("doctor", *given))["Strong model", "reachable"]
    assert found["state"] == "note" and "check the network" in found["text"]


@pytest.mark.parametrize("nt", [False, True])
def test_doctor_names_no_keyring_where_there_is_none(cli, not_built, monkeypatch, nt):
    from edge_router.cli.verbs import remote_checks
    from edge_router.engines.remote import keys as key_lookup

    def none(service: str, name: str) -> None:
        raise RuntimeError("no desktop")

    monkeypatch.setattr(key_lookup, "_system_keyring", none)
    monkeypatch.setattr(remote_checks, "IS_WINDOWS", nt)
    text = findings(cli("doctor", "--offline", "--json", "-o", "strong.model=gpt-x"))["Strong model", "key"][
        "text"
    ]
    assert "keyring set" not in text and "no desktop" in text
    assert text.endswith("setx OPENAI_API_KEY YOUR-KEY" if nt else "export OPENAI_API_KEY=YOUR-KEY")


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (
            Probe(200, frozenset({"gpt-x"})),
            "ok",
            "given to the key from the environment variable OPENAI_API_KEY",
        ),
        (Probe(200), "ok", "the list of models was given"),
        (Probe(200, frozenset({"other"})), "note", "gpt-x is not in it"),
        (Probe(401), "bad", "was refused (HTTP 401); replace it there"),
        (Probe(403), "bad", "was refused (HTTP 403)"),
        (Probe(404), "note", "GET /models answers HTTP 404"),
        (StrongTimeout("http://x", 5), "note", "no answer within 5 s"),
    ],
)
def test_doctor_tries_the_key(cli, not_built, monkeypatch, answer, state, words):
    import socket

    def probe(settings, key):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setattr("edge_router.engines.remote.probe.probe", probe)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        done = cli("doctor", "--json", "-o", "strong.model=gpt-x", "-o", f"strong.base_url={url}")
    found = findings(done)["Strong model", "access"]
    assert found["state"] == state and words in found["text"] and "sk-very-secret" not in done.out


def test_doctor_tries_each_endpoint(cli, not_built, monkeypatch, strong_server, refused_url):
    monkeypatch.setenv("WORK_KEY", "sk-very-secret")
    given = {
        "endpoints.work.models": "gpt-x,gpt-y",
        "endpoints.work.base_url": strong_server.url(),
        "endpoints.work.api_key_env": "WORK_KEY",
        "endpoints.down.models": "big",
        "endpoints.down.base_url": refused_url,
        "server.port": "1",
        "tiers": "0:weak,0.375:gpt-x,0.9:big",
    }
    done = cli("doctor", "--json", *(part for key in given for part in ("-o", f"{key}={given[key]}")))
    found = findings(done)
    rows = (
        ("work", "model", "ok", f"gpt-x, gpt-y at {strong_server.url()}"),
        ("work", "key", "ok", "from the environment variable WORK_KEY"),
        ("work", "reachable", "ok", "connects in"),
        ("work", "access", "ok", "the list of models was given to the key from the environment variable"),
        ("down", "key", "ok", "none is sent there; one would be named by endpoints.down.api_key_env"),
        ("down", "reachable", "note", "check the network and endpoints.down.base_url in: edge-router config"),
        ("work", "prices", "ok", "for budgets and replay set endpoints.work.price_in"),
        ("work", "state", "ok", "ready; no server of edge-router runs at 127.0.0.1:1"),
        ("down", "state", "note", "would fail, as told above; no server of edge-router runs at 127.0.0.1:1"),
    )
    for name, what, state, words in rows:
        finding = found[f"Endpoint {name}", what]
        assert finding["state"] == state and words in finding["text"], (name, what)
    assert "threshold 0.375" in found["Router", "mf"]["text"]
    assert ("Strong model", "model") not in found and "sk-very-secret" not in done.out


def test_doctor_tells_how_endpoints_fare_in_the_server_that_runs(strong_server, paths):
    settings = {"strong.max_retries": 0, "server.port": 0}
    for name, script in (("a", "401"), ("b", "429-600"), ("c", "ok")):
        settings |= {
            f"endpoints.{name}.models": ["m"],
            f"endpoints.{name}.base_url": strong_server.url(script),
        }
    config = Config().replace(**settings)
    controller = Controller(config, weak=ScriptedEngine(), router=ScriptedRouter(0.9))
    with controller, launching.serving(controller, None) as url:
        port = urlsplit(url).port
        here = SimpleNamespace(command=lambda *words: " ".join(words))
        asked = config.replace(**{"server.port": port})

        def told():
            found = list(remote_checks.strong(here, asked))
            return {each.section[-1]: (each.state, each.text) for each in found if each.name == "state"}

        assert {text.partition(",")[0] for _, text in told().values()} == {"ready"}  # nobody was asked yet
        controller.chat.completions.create(messages="hi")
        states = told()
    for name, state, words in (("a", "note", "failing"), ("b", "note", "cooling"), ("c", "ok", "ready")):
        assert states[name][0] == state and states[name][1].startswith(words), states
        assert f"in the server at 127.0.0.1:{port}" in states[name][1], states


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", "socks4://me:pass-word@127.0.0.1:9", "write socks5://"),
        ("HTTPS_PROXY", "http://me:pass-word@host:port", "is not an address"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "names /nowhere/ca.pem, which is not there"),
    ],
)
def test_doctor_names_a_proxy_or_certificates_that_cannot_be_used(
    cli, not_built, monkeypatch, name, value, words
):
    for other in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.lower(), raising=False)
    monkeypatch.setenv(name, value)
    found = findings(cli("doctor", "--offline", "--json"))["Network", name]
    assert found["state"] == "note" and words in found["text"] and "pass-word" not in found["text"]


def test_doctor_says_which_proxy_is_taken(cli, not_built, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pass-word@127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://me:pass-word@127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    done = cli("doctor", "--json", "-o", "strong.model=m")
    found = findings(done)
    assert "by way of http://127.0.0.1:1 (https_proxy)" in found["Network", "proxy"]["text"]
    assert "no to the proxy http://127.0.0.1:1 (https_proxy)" in found["Strong model", "reachable"]["text"]
    assert "pass-word" not in done.out


def test_doctor_sees_missing_and_wrong_packages(cli, not_built, monkeypatch):
    from importlib import metadata

    version = metadata.version

    def installed(name: str) -> str:
        if name == "jinja2":
            raise metadata.PackageNotFoundError(name)
        return "0.0.1" if name == "apache-tvm" else version(name)

    monkeypatch.setattr("edge_router.cli.verbs.checks.metadata.version", installed)
    done = cli("doctor", "--offline", "--json")
    found = findings(done)
    assert done.code == 1
    assert 'python -m pip install "jinja2>=3.1.6"' in found["Packages", "jinja2"]["text"]
    assert found["Packages", "apache-tvm"]["state"] == "bad"
    assert found["Packages", "edge-router"]["state"] == "ok"


def test_doctor_sees_a_home_that_cannot_be_written_to(cli, not_built, monkeypatch, tmp_path):
    blocked = tmp_path / "a-file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(blocked / "home"))
    done = cli("doctor", "--offline")
    assert done.code == 1 and "EDGE_ROUTER_HOME" in done.out


def test_doctor_sees_a_disk_that_is_nearly_full(cli, not_built, monkeypatch):
    monkeypatch.setattr(
        "edge_router.cli.verbs.checks.shutil.disk_usage", lambda place: SimpleNamespace(free=5_000_000)
    )
    found = findings(cli("doctor", "--offline", "--json"))
    assert found["Folders", "artifacts"]["state"] == "note"
    assert "only 4.8 MiB free" in found["Folders", "artifacts"]["text"]


def test_doctor_shows_gpus(cli, not_built, monkeypatch):
    from edge_router.device import Gpu

    gpu = Gpu("RTX 4070", "nvidia", 12_000_000_000, 11_000_000_000, "sm_89", "570.1")
    monkeypatch.setattr("edge_router.device.gpus", lambda: (gpu,))
    text = findings(cli("doctor", "--offline", "--json"))["This machine", "gpu"]["text"]
    assert text == "RTX 4070, 11.2 GiB, 10.2 GiB free (sm_89, 570.1)"


def test_doctor_leaves_other_engines_alone(cli):
    assert cli("doctor", "--offline", "-o", "weak.engine=scripted").code == 0


def test_doctor_says_where_mlc_llm_is_to_be_had(cli):
    nowhere = ("-o", "mlc.python=/nowhere/python")
    done = cli("doctor", "--offline", "--json", "-o", "weak.engine=mlc", *nowhere)
    found = findings(done)["Weak model", "mlc_llm"]
    assert done.code == 1 and found["state"] == "bad" and "https://llm.mlc.ai" in found["text"]
    assert "/nowhere/python cannot be started" in found["text"]


def test_doctor_says_what_mlc_llm_is_and_whether_it_can_compile():
    """Serving works with TVMs that its compiler was not made for; on a processor our own libraries do."""
    ours = here().packages
    theirs = {**ours, "tvm": Package(True, (("mlc-ai", "0.20"),), "")}
    both = {**ours, "tvm": Package(True, (("apache-tvm", "0.27"), ("mlc-ai", "0.20")), "")}
    broken = "AttributeError: module 'tvm.relax' has no attribute 'Constant'"
    for packages, why, device, states, said in (
        (theirs, None, "vulkan", "ok ok ok", "compiles"),
        (ours, None, "cpu", "ok ok ok", "edge-router's own libraries, which are faster"),
        (ours, broken, "cpu", "ok ok ok", f"cannot compile ({broken}), nor need it"),
        (ours, broken, "vulkan", "ok ok bad", "of one release, into that Python"),
        (theirs, broken, "cpu", "ok ok bad", broken),
        (both, None, "vulkan", "ok bad ok", "0.27 (apache-tvm) and 0.20 (mlc-ai) both bring"),
    ):
        python = MlcPython("/opt/mlc/bin/python", (3, 13, 1), {**packages, "mlc_llm": MLC_LLM})
        found = list(mlc_checks.told(python, on_processor=device == "cpu", why_not=lambda why=why: why))
        row = (packages, why, device)
        assert [finding.state for finding in found] == states.split(), row
        text = "\n".join(finding.text for finding in found)
        assert (
            "0.21.dev3 (mlc-llm-nightly), in /opt/mlc/bin/python (Python 3.13.1)" in text and said in text
        ), row


def test_doctor_says_what_is_kept_from_the_strong_model(cli, not_built, paths):
    found = findings(cli("doctor", "--offline", "--json"))
    assert found["Privacy", "guard"]["text"] == "secrets, cards, ibans stay here"
    assert found["Privacy", "rules"]["text"] == f"none; they stand in {paths.rules}"
    sections = [section for section, _ in found]
    assert [name for name, _ in groupby(sections)] == list(dict.fromkeys(sections)), "each stands once"
    paths.rules.write_text("[[rule]]\nwords = 'acme'\nthen = 'local_only'\n")
    found = findings(cli("doctor", "--offline", "--json", "--set", "guard.level=off"))
    assert found["Privacy", "guard"]["state"] == "note"
    assert found["Privacy", "rules"]["text"] == f"1 in {paths.rules}"
    paths.rules.write_text("[[rule]]\nwords = 'acme'\n")
    found = findings(cli("doctor", "--offline", "--json"))
    assert "rule 1: then is missing" in found["Privacy", "rules"]["text"]
    assert found["Privacy", "rules"]["state"] == "bad"


@pytest.mark.parametrize(
    ("budget", "context", "told"),
    [
        ("2GiB", 2048, "it fits: "),
        ("300MiB", 8192, "it gets a context of "),
        ("100MiB", 4096, "it does not fit: "),
    ],
)
def test_doctor_says_of_the_configured_model_what_plan_says(cli, budget, context, told):
    asked = (
        "-o",
        f"weak.vram_budget={budget}",
        "-o",
        f"weak.context_window_size={context}",
        "-o",
        "weak.device=cpu",
    )
    found = findings(cli("doctor", "--offline", "--json", *asked))
    assert f"context {context}" in found["Weak model", "model"]["text"]
    assert found["Weak model", "memory"]["text"].startswith(told)
    assert (cli("plan", MODEL, *asked, "--context-window-size", context).code == 0) == told.startswith(
        "it fits"
    )
