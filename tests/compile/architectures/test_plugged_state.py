"""A made-up architecture with a recurrent layer out of another package: nothing of ours knows of it.

`PACKAGE` is all that such a package needs: what it is, its kernel and its graph, and the same in numpy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.architectures.mixers import state_slots
from edge_router.compile.fingerprint import plugged
from edge_router.compile.weights.reference import Reference
from edge_router.vram import ModelShape, Place, Settings, backend, estimate, total

PACKAGE = {
    # Each channel keeps what came in, and halves it with every token.
    "fading_architecture.py": """
from edge_router.architectures import Architecture
from edge_router.architectures.mixers import Mixer, MixerSizes, State, count

def sizes(config, where):
    channels = count(config, "fading_channels", where)
    return MixerSizes({"in_proj": channels}, channels, {}, (State("kept", (channels,)),))

FADE = Mixer("fade", "fade", sizes, graph="fading:Fade", reference="fading_numpy:fade")

def fading():
    return Architecture("fading", mixers=(FADE,), keys=("layer_types", "fading_channels"))
""",
    "fading_numpy.py": """
import numpy as np

def fade(config, projected, weight, states):
    found = np.empty_like(projected)
    for at, row in enumerate(projected):
        states["kept"] = found[at] = np.float32(0.5) * states["kept"] + row
    return found
""",
    "fading.py": """
from edge_router.compile.graphs.mixing import Mixing
from edge_router.compile.kernels.convolution import Rows
from edge_router.compile.kernels.ir import Cell, const, kernel, load, parallel, serial, store
from tvm.relax.frontend.nn import Tensor

def fade(channels):
    with kernel("fade") as k:
        count = k.size()
        x = k.tensor("x", (count, channels))
        kept = k.tensor("kept", (k.size(), k.size(), channels))
        rows = Rows(k, count)
        y = k.tensor("y", (count, channels))
        with parallel(channels) as i:
            held = Cell(const(0.0, "float32"))
            with serial(count) as row:
                rows.at_begin(
                    row,
                    lambda slot: held.set(load(kept, rows.layer, slot, i)),
                    lambda: held.set(const(0.0, "float32")),
                )
                held.set(held.value * 0.5 + load(x, row, i))
                store(y, held.value, row, i)
                rows.at_end(row, lambda slot: store(kept, held.value, rows.layer, slot, i))
    return k.function

class Fade(Mixing):
    def mix(self, projected, states, layer):
        channels = self.sizes.width
        arguments = [projected, *self.states(states)]
        y = Tensor.placeholder(projected.shape, "float32")
        return self.parts.call(("fade", channels), "fade", lambda: fade(channels), arguments, y, number=layer)
""",
    "fading-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: fading\nVersion: 1.0\n",
    "fading-1.0.dist-info/entry_points.txt": (
        "[edge_router.architectures]\nfading = fading_architecture:fading\n"
    ),
}
CHANNELS, LAYERS = 96, ["fade", "full_attention"]
TOKENS = [5, 17, 44, 120, 9, 77, 200, 31, 8, 64, 3, 90, 41, 150, 22, 18, 6, 101, 55, 70]
WORKER = """
import json, sys
from pathlib import Path
from edge_router.catalog import find_model
from edge_router.compile.pipeline import BuildSettings, ensure
from edge_router.config.settings import Config
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.system.paths import Paths

tokens = json.loads(sys.argv[3])
card = find_model(sys.argv[1])
built = ensure(card, BuildSettings.from_config(Config()), paths=Paths.under(Path(sys.argv[2])))
runner = TvmRunner(built.model_dir, built.library, context_window_size=64)
runner.add_sequence(0)
found = [runner.prefill(0, tokens[:18]).tolist(), runner.decode([0], tokens[18:19])[0].tolist()]
at = runner.reach(0, 17)
runner.fork_sequence(0, 1, at)
found += [runner.prefill(1, tokens[at:18] + tokens[19:]).tolist(), runner.decode([0], tokens[19:])[0].tolist()]
print(json.dumps({"folder": str(built.model_dir), "at": at, "logits": found}))
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    for name, text in PACKAGE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def checkpoint(tiny: Any, folder: Path) -> dict[str, Any]:
    """A tiny Llama whose first layer is of the new kind."""
    made = tiny.make(folder)
    config: dict[str, Any] = {
        **made.config, "model_type": "fading", "layer_types": LAYERS, "fading_channels": CHANNELS,
    }  # fmt: skip
    tensors = {name: one for name, one in made.tensors.items() if "layers.0.self_attn" not in name}
    rng, hidden = np.random.default_rng(3), config["hidden_size"]
    for name, shape in (("in_proj", (CHANNELS, hidden)), ("out_proj", (hidden, CHANNELS))):
        tensors[f"model.layers.0.fade.{name}.weight"] = rng.normal(0, 0.2, shape).astype("f4")
    tiny.write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return config


def test_a_recurrent_layer_of_another_package_is_built_planned_and_run(
    tiny: Any, site: Path, tmp_path: Path
) -> None:
    from edge_router.compile.readers import open_weights

    config = checkpoint(tiny, tmp_path / "model")
    search = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path / "model"), str(tmp_path / "home"), json.dumps(TOKENS)],
        env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["at"] == 16  # a page's border
    reference = Reference(open_weights(Path(answer["folder"])))
    wanted = reference.logits(reference.hidden(TOKENS))
    reference.reset()
    forked = reference.logits(reference.hidden(TOKENS[:18] + TOKENS[19:]))[-1]
    for found, right in zip(answer["logits"], (wanted[17], wanted[18], forked, wanted[19]), strict=True):
        assert np.abs(np.array(found) - right[: len(found)]).max() < 0.02 * wanted.std()
    shape = ModelShape.of(config, "fading")
    products = estimate(shape, _form(), Settings("q4f16_1", 64, 32), Place(backend("cpu")))
    states = [item for item in products if item.name == "states, kept"]
    slots = state_slots(1, CHANNELS, 2 * 64 * config["num_key_value_heads"] * config["head_dim"])
    assert total(states) == slots * CHANNELS * 4 > 0


def test_its_files_are_inputs_of_what_is_built(site: Path) -> None:
    assert sorted(plugged("fading")) == [
        "edge_router.compile.graphs.decoder",
        "fading",
        "fading_architecture",
    ]


def _form() -> Any:
    from edge_router.architectures.quantization import quantization

    return quantization("q4f16_1")
