"""Every reader of JSON, given what is no JSON and what is odd JSON: one of our errors, or none at all."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge_router.compile.readers.base import read_json
from edge_router.compile.readers.safetensors import SafetensorsReader
from edge_router.compile.weights.ready import chat_config
from edge_router.device import machine
from edge_router.errors import EdgeRouterError
from edge_router.hub import hashing
from edge_router.hub import records as fetched
from edge_router.labelling.pairs import LabelRow, read_output
from edge_router.routing.confidence import asking
from edge_router.routing.confidence.gate import Gate, LogisticRegression
from edge_router.routing.labels.tables import _read_jsonl
from edge_router.routing.routers.graph import METADATA_KEY, describe
from edge_router.routing.thresholds import drift
from edge_router.routing.thresholds.tracking import ShareTracker
from edge_router.store import manifest
from edge_router.vram.library import USAGE, library_bytes

NO_JSON = (
    *(b"", b"{", b"\xff\xfe{}", b"[]", b"null", b"1", b'"x"', b"NaN", b'{"a": 1e999}', b"9" * 5000),
    *(b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a": 1} x'),
)
ODD = (None, True, -1, 0.5, 10**40, "", "two", [], ["a"], {}, {"a": 1})


def twisted(value: object) -> Iterator[object]:
    """`value` once for each place in it and each odd word, which stands there; and without the place."""
    yield from ODD
    if isinstance(value, dict):
        for key in value:
            yield {name: item for name, item in value.items() if name != key}
            yield from ({**value, key: other} for other in twisted(value[key]))
    elif isinstance(value, list):
        for index in range(min(len(value), 3)):
            copy = deepcopy(value)
            for other in twisted(value[index]):
                copy[index] = other
                yield deepcopy(copy)


def safetensors(folder: Path, text: bytes) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + np.zeros(4, np.float32).tobytes())
    reader = SafetensorsReader(folder)
    for name in reader.tensors:
        reader.rows(name)


def sharded(folder: Path, text: bytes) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    shard = struct.pack("<Q", len(header)) + header + np.zeros(4, np.float32).tobytes()
    (folder / "model-1.safetensors").write_bytes(shard)
    (folder / "model.safetensors.index.json").write_bytes(text)
    assert SafetensorsReader(folder).tensors


def graph_metadata(folder: Path, text: bytes) -> None:
    custom = {METADATA_KEY: text.decode("utf-8", "replace")}
    session = SimpleNamespace(get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=custom))
    describe(session, "router.onnx")  # type: ignore[arg-type]


def share(folder: Path, text: bytes) -> None:
    (folder / "share.json").write_bytes(text)
    tracker = ShareTracker(0.3, 0.5, router="mf", file=folder / "share.json")
    assert 0 <= tracker.threshold <= 1.1


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], None]:
    def call(folder: Path, text: bytes) -> None:
        file = folder / name
        file.write_bytes(text)
        read(file)

    return call


def lines(read: Callable[[Path], Iterator[object]]) -> Callable[[Path, bytes], None]:
    return in_file("lines.jsonl", lambda file: list(read(file)))


def artifact(folder: Path, text: bytes) -> None:
    place = folder / "weights" / "key"
    place.mkdir(parents=True, exist_ok=True)
    (place / "a.bin").write_bytes(b"1234")
    (place / manifest.MANIFEST).write_bytes(text)
    manifest.check_contents(place)


MLC = {"model_type": "llama", "model_config": {"hidden_size": 64}, "context_window_size": 1024}
ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
GATE = Gate(
    4,
    (1, 2),
    LogisticRegression((0.1, 0.2), 0.0),
    LogisticRegression((0.1, 0.2), 0.0),
    LogisticRegression((0.1, 0.2, 0.3), 0.0),
)
ROW = LabelRow("p", 0.5, 1.0, "a", "b", "small", "big", "exact", None)
BASE = drift.Baseline("mf", 0.5, 0.3, 100, tuple(i / 100 for i in range(101)), 1e9)
MANIFEST = {
    "format": 1, "version": "0", "created": 1.0, "inputs": {"model": "m"},
    "files": {"a.bin": {"bytes": 4, "sha256": "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4"}},
}  # fmt: skip
SEEN = ["digest", "kind", True, [0.1], [-0.2]]
USED = {"embed": 1, "batch_prefill": 2, "decode": 3, "batch_decode": 4}
RECORD = {"source": "s", "origin": "o", "files": {"": {"bytes": 4, "mtime_ns": 1, "sha256": "0"}}}
HOST = {"key": "k", "cpu": "znver4", "features": ["avx2"]}
READ = {"surface": [], "format": 1, "max_tokens": 64, "tail_tokens": 8}

READERS: dict[str, tuple[object, Callable[[Path, bytes], object]]] = {
    "a config of any kind": ({"a": 1}, in_file("config.json", read_json)),
    "safetensors' header": ({"w": ENTRY}, safetensors),
    "safetensors' index": ({"weight_map": {"w": "model-1.safetensors"}}, sharded),
    "mlc-chat-config.json": (MLC, lambda folder, text: in_file("mlc-chat-config.json", lambda f: chat_config(f.parent))(folder, text)),
    "a record of what was fetched": (RECORD, in_file(".x.record.json", lambda f: fetched.read_record(f.parent / "x"))),
    "remembered hashes": ({"files": {"": ["stamp", "sum"]}}, in_file("note.json", hashing._recall)),
    "an artifact's manifest": (MANIFEST, artifact),
    "what label wrote": (asdict(ROW), lines(read_output)),
    "labelled prompts": ({"prompt": "p", "weak_score": 1}, in_file("prompts.jsonl", _read_jsonl)),
    "what was asked to calibrate": (SEEN, lines(asking._read)),
    "a gate": (json.loads(GATE.to_json()), in_file("gate.json", Gate.read)),
    "calibrations": ({"mf": asdict(BASE)}, in_file("calibration.json", drift.load)),
    "a held share": ({"router": "mf", "level": 0.5, "scores": [0.1, 0.2]}, share),
    "the processor": (HOST, in_file("host.json", lambda f: machine._recall(f, "k"))),
    "a library's buffers": (USED, in_file(USAGE, lambda f: library_bytes(f.with_name("model.tar"), 2))),
    "a router's metadata": (READ, graph_metadata),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_the_good_one_is_read(name, tmp_path):
    good, read = READERS[name]
    read(tmp_path, json.dumps(good).encode())


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_json_is_one_of_our_errors(name, tmp_path):
    for text in NO_JSON:
        try:
            READERS[name][1](tmp_path, text)
        except EdgeRouterError as error:
            assert len(str(error)) < 1000, error


@pytest.mark.parametrize("name", READERS)
def test_an_odd_word_is_one_of_our_errors(name, tmp_path):
    good, read = READERS[name]
    for value in twisted(good):
        try:
            read(tmp_path, json.dumps(value).encode())
        except EdgeRouterError as error:
            assert len(str(error)) < 1000, error
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {json.dumps(value)[:300]}") from error
