"""The header of a GGUF file, read without its tensors: numbers, parts, and what no file may ask for."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from table import each

from edge_router.catalog import find_model
from edge_router.catalog.gguf import GgufModel, first_part, gguf_config, models_among, parts_of, title_of
from edge_router.catalog.gguf.config import GgufConfig
from edge_router.compile.readers import open_weights
from edge_router.compile.weights.parameters import parameters
from edge_router.errors import EdgeRouterError, InvalidModel, WeightsCorrupt

NUMBERS: Mapping[str, Any] = {
    "context_length": 4096,
    "embedding_length": 64,
    "block_count": 2,
    "feed_forward_length": 128,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 10000.0,
}
TENSORS = {
    "token_embd.weight": np.zeros((100, 64), np.float32),
    "output_norm.weight": np.ones(64, np.float32),
}


def write(
    path: Path,
    *,
    tensors: Mapping[str, Any] = TENSORS,
    part: tuple[int, int, int] | None = None,
    **extra: Any,
) -> Path:
    """By the gguf package, so by the format's own authors. `part`: number, count, tensors in all."""
    writer = gguf.GGUFWriter(path, "llama")
    numbers = {} if part and part[0] else {**NUMBERS, **extra}
    for key, value in numbers.items():
        if isinstance(value, list):
            writer.add_array(f"llama.{key}", value)
        else:
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(f"llama.{key}", value)
    if not part or not part[0]:
        writer.add_token_list([f"token{number}" for number in range(2000)])
        writer.add_token_scores([0.5] * 2000)
        writer.add_token_types([1] * 2000)
    if part:
        writer.add_uint16("split.no", part[0])
        writer.add_uint16("split.count", part[1])
        writer.add_int32("split.tensors.count", part[2])
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    return write(tmp_path / "Tiny.Q8_0.gguf")


def test_the_numbers_come_under_their_hugging_face_names(gguf_file: Path) -> None:
    config = gguf_config(gguf_file)
    assert config == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "max_position_embeddings": 4096,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "vocab_size": 100,
        "tie_word_embeddings": True,
    }
    card = find_model(str(gguf_file))
    assert card.name == "Tiny.Q8_0" and card.architecture == "llama" and card.max_context == 4096
    assert find_model(str(gguf_file.parent)).config == card.config  # the only one in its folder


def test_lists_of_tokens_are_passed_over_where_nobody_wants_them(gguf_file: Path) -> None:
    assert "tokenizer.ggml.tokens" not in GgufModel(gguf_file, lists=False).fields
    assert len(GgufModel(gguf_file).fields["tokenizer.ggml.tokens"]) == 2000  # type: ignore[arg-type]


def test_two_models_in_a_folder_are_none_by_themselves(gguf_file: Path) -> None:
    write(gguf_file.with_name("other.gguf"))
    for ask in (lambda path: find_model(str(path)), open_weights):
        with pytest.raises(
            InvalidModel, match=r"2 models in .gguf files; name one: Tiny.Q8_0.gguf, other.gguf"
        ):
            ask(gguf_file.parent)


def test_what_sees_for_a_model_is_none(gguf_file: Path) -> None:
    gguf_file.with_name("mmproj-f16.gguf").write_bytes(b"")
    assert find_model(str(gguf_file.parent)).config["vocab_size"] == 100


@pytest.mark.parametrize(
    ("names", "models"),
    [
        (["m.gguf"], ["m.gguf"]),
        (["m-Q4_K_M.gguf", "m-Q8_0.gguf"], ["m-Q4_K_M.gguf", "m-Q8_0.gguf"]),
        (["m.gguf", "mmproj-m.gguf", "m-mmproj-f16.gguf", "mmproj.gguf"], ["m.gguf"]),
        (["imatrix_u.gguf", "m.imatrix.gguf", "m.gguf"], ["m.gguf"]),
        (["m-00002-of-00003.gguf", "m-00003-of-00003.gguf"], ["m-00001-of-00003.gguf"]),
        (["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf"], ["q/m-00001-of-00002.gguf"]),
        (["m-00003-of-00002.gguf"], ["m-00003-of-00002.gguf"]),
        (["commproject.gguf", "m.bin", "README.md"], ["commproject.gguf"]),
    ],
)
def test_which_files_are_models(names: list[str], models: list[str]) -> None:
    assert list(models_among(names)) == models


def test_names_of_parts() -> None:
    assert parts_of("a-00002-of-00003.gguf") == [f"a-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert parts_of("a.gguf") == ["a.gguf"]
    for name in ("a-00002-of-00003.gguf", "a.gguf", "d/a-00003-of-00003.gguf", "a-00004-of-00003.gguf"):
        assert first_part(name) == parts_of(name)[0]
    assert title_of("a-b-00002-of-00003.gguf") == "a-b" and title_of("a.Q8_0.gguf") == "a.Q8_0"


# ---- parts -------------------------------------------------------------------------------------------------


def split(folder: Path) -> list[Path]:
    files = [folder / f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, (file, name) in enumerate(zip(files, TENSORS, strict=True)):
        write(file, tensors={name: TENSORS[name]}, part=(number, 2, 2))
    return files


@pytest.mark.parametrize("named", [0, 1, None])
def test_parts_are_one_model_whichever_is_named(tmp_path: Path, named: int | None) -> None:
    files = split(tmp_path)
    path = tmp_path if named is None else files[named]
    assert find_model(str(path)).config["vocab_size"] == 100
    reader = open_weights(path)
    assert set(reader.tensors) == {"model.embed_tokens.weight", "model.norm.weight"}
    np.testing.assert_array_equal(reader.rows("model.norm.weight"), np.ones(64))
    if named is not None:
        card = find_model(str(path))
        assert card.name == "big" and str(card.source) == str(files[0])


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("ask", [find_model, open_weights], ids=["plan", "compile"])
def test_a_missing_part_is_said(tmp_path: Path, missing: int, ask: Callable[[Any], object]) -> None:
    files = split(tmp_path)
    files[missing].unlink()
    other = str(files[1 - missing])
    with pytest.raises(InvalidModel, match=f"one of 2 parts, and beside it is no {files[missing].name}"):
        ask(other if ask is find_model else Path(other))


def test_a_part_under_another_name_is_said(tmp_path: Path) -> None:
    first, second = split(tmp_path)
    first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(InvalidModel, match=r"one of 2 parts by its header, and its name does not say which"):
        gguf_config(tmp_path / "renamed.gguf")
    second.rename(first)
    write(second)
    with pytest.raises(InvalidModel, match=r"split.no is 1|one of 1 parts"):
        gguf_config(first)


def test_a_tensor_in_two_parts_is_said(tmp_path: Path) -> None:
    files = split(tmp_path)
    write(files[1], part=(1, 2, 2))
    with pytest.raises(InvalidModel, match=r"token_embd.weight, which another part holds"):
        gguf_config(files[0])


# ---- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "scaling"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, 4.0),
        ({"rope.scaling.factor": 4.0}, 4.0),
        ({"rope.scale_linear": 2.5}, 2.5),
        ({"rope.scaling.type": "linear", "rope.scale_linear": 2.0}, 2.0),
        ({"rope.scaling.factor": 8}, 8.0),
        ({"rope.scaling.factor": 1.0}, None),
        ({"rope.scale_linear": 0.0}, None),
        ({"rope.scaling.type": "linear"}, None),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, None),
        ({}, None),
    ],
)
def test_linear_factors_under_each_key(tmp_path: Path, stated: dict[str, Any], scaling: float | None) -> None:
    file = write(tmp_path / "rope.gguf", **stated)
    wanted = None if scaling is None else {"rope_type": "linear", "factor": scaling}
    assert gguf_config(file)["rope_scaling"] == wanted
    assert open_weights(file).config["rope_scaling"] == wanted


@each("key", [key for key in NUMBERS if key != "attention.head_count"])
@each("odd", [-1, 0, 1 << 63, float("nan"), float("inf"), -1.0, 0.0, "x", True])
def test_numbers_that_no_model_has_are_refused_by_plan_and_compile(
    tmp_path: Path, key: str, odd: object
) -> None:
    fields = {f"llama.{name}": value for name, value in {**NUMBERS, key: odd}.items()}
    model = GgufModel(write(tmp_path / "odd.gguf"))
    model.fields = {"general.architecture": "llama", **fields}
    with pytest.raises(InvalidModel):
        model.config()


@pytest.mark.parametrize("key", ["attention.sliding_window", "attn_logit_softcapping"])
def test_what_is_zero_is_not_there(tmp_path: Path, key: str) -> None:
    for architecture in ("gemma3", "starcoder2"):
        model = GgufModel(write(tmp_path / f"{architecture}.gguf"))
        numbers = {f"{architecture}.{name}": value for name, value in {**NUMBERS, key: 0}.items()}
        model.fields = {"general.architecture": architecture, **numbers}
        config = model.config()
        assert config.get("sliding_window") is None and config.get("attn_logit_softcapping") is None


@pytest.mark.parametrize("kind", ["longrope", "su", "dynamic"])
def test_other_scalings_are_refused_by_plan_and_compile(tmp_path: Path, kind: str) -> None:
    file = write(tmp_path / "rope.gguf", **{"rope.scaling.type": kind, "rope.scaling.factor": 4.0})
    with pytest.raises(InvalidModel, match=kind):
        gguf_config(file)
    with pytest.raises(InvalidModel, match=kind):
        _ = open_weights(file).config


def test_yarn_is_read_with_the_context_as_its_original_length_where_none_is_stated(tmp_path: Path) -> None:
    """As llama.cpp does."""
    keys = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_beta_fast": 16.0}
    config = gguf_config(write(tmp_path / "rope.gguf", **keys))
    assert config["rope_scaling"] == {
        "rope_type": "yarn",
        "factor": 4.0,
        "beta_fast": 16.0,
        "original_max_position_embeddings": config["max_position_embeddings"],
    }


def test_channels_that_are_not_turned_are_refused_where_no_such_model_exists(tmp_path: Path) -> None:
    config = gguf_config(write(tmp_path / "part.gguf", **{"rope.dimension_count": 8}))
    with pytest.raises(InvalidModel, match=r"partial_rotary_factor is 0\.5"):
        parameters(config, "part.gguf")
    whole = gguf_config(write(tmp_path / "whole.gguf", **{"rope.dimension_count": 16}))
    assert parameters(whole, "whole.gguf")


@pytest.mark.parametrize("key", ["attention.head_count", "attention.head_count_kv", "feed_forward_length"])
def test_a_number_for_each_layer_is_taken_where_all_are_alike(tmp_path: Path, key: str) -> None:
    file = write(tmp_path / "alike.gguf", **{key: [NUMBERS[key]] * 2})
    assert gguf_config(file) == gguf_config(write(tmp_path / "plain.gguf")) == open_weights(file).config
    other = write(tmp_path / "other.gguf", **{key: [NUMBERS[key], 4 * NUMBERS[key]]})
    with pytest.raises(InvalidModel, match=f"llama.{key} differs from layer to layer"):
        gguf_config(other)


@pytest.mark.parametrize("value", [1e-5, 1e-6, 1.0, 10000.0, 0.1, 5e5, 1.0416667461395264, 3.3333333, 1e300])
def test_a_float32_is_the_shortest_decimal_that_reads_as_it(value: float) -> None:
    fields = {f"llama.{key}": number for key, number in NUMBERS.items()}
    fields |= {"general.architecture": "llama", "llama.rope.freq_base": value}
    shapes = {"token_embd.weight": (100, 64)}
    said = GgufConfig(fields, shapes, lambda name: [], Path("made.gguf")).config()["rope_theta"]
    assert said == (value if value > 1e38 else float(str(np.float32(value))))


def test_an_architecture_that_cannot_be_compiled_states_what_it_can(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    card = find_model(str(tmp_path / "m.gguf"))
    assert card.architecture == "mamba" and card.config["hidden_size"] == 64 and card.max_context == 512


def test_what_is_a_part_of_a_model_only_is_said(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "eyes.gguf", "llama")
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InvalidModel, match=r"general\.type is 'adapter'"):
        gguf_config(tmp_path / "eyes.gguf")


# ---- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 3, 300, 1500])
def test_a_cut_header_is_said(gguf_file: Path, length: int) -> None:
    gguf_file.write_bytes(gguf_file.read_bytes()[:length])
    with pytest.raises(WeightsCorrupt, match=r"at least|fit into|of 24 bytes"):
        gguf_config(gguf_file)


def header(
    version: int = 3,
    *,
    key: bytes = b"general.architecture",
    kind: int = 8,
    value: bytes = b"",
    fields: int = 1,
    tensors: int = 0,
) -> bytes:
    begin = struct.pack("<4sIQQQ", b"GGUF", version, tensors, fields, len(key))
    return begin + key + struct.pack("<I", kind) + value


HUGE = struct.pack("<Q", 1 << 40)
IMPOSSIBLE = {
    "other magic": (b"GGML" + b"\0" * 60, "the bytes b'GGUF' at the start"),
    "older version": (header(1), "version 1; versions 2 and 3"),
    "a long string": (header(value=HUGE), "at least 10995116278"),
    "a long key": (struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + HUGE + b"x" * 9, "at least"),
    "many fields": (header(fields=1 << 50), "1125899906842624 of them"),
    "many tensors": (header(value=struct.pack("<Q", 1) + b"y", tensors=1 << 50), "1125899906842624 of them"),
    "a long list": (header(kind=9, value=struct.pack("<IQ", 4, 1 << 40)), "1099511627776 of them"),
    "a long list of strings": (header(kind=9, value=struct.pack("<IQ", 8, 1 << 40)), "1099511627776 of them"),
    "lists in lists": (header(kind=9, value=struct.pack("<IQ", 9, 1) * 40), "a known type of metadata"),
    "an unknown type": (header(kind=77), "type 77"),
    "no architecture": (header(key=b"x", value=struct.pack("<Q", 1) + b"y"), "general.architecture is missing"),
    "a huge rank": (
        header(value=struct.pack("<Q", 1) + b"y", tensors=1)
        + struct.pack("<Q", 1) + b"t" + struct.pack("<I", 0x7FFFFFFF) + b"\0" * 64,
        "1 to 4 axes, found 2147483647",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_headers_that_cannot_be(tmp_path: Path, name: str) -> None:
    content, said = IMPOSSIBLE[name]
    (tmp_path / "bad.gguf").write_bytes(content)
    for lists in (True, False):
        with pytest.raises((InvalidModel, WeightsCorrupt), match=said):
            GgufModel(tmp_path / "bad.gguf", lists=lists).config()


@pytest.mark.skipif(sys.platform == "win32", reason="sparse files are made another way there")
@pytest.mark.parametrize("kind", [0, 12, 8])
def test_a_huge_file_buys_no_memory_for_its_header(tmp_path: Path, kind: int) -> None:
    """Counts that would fit into a file of 8 GiB: a list of so many numbers would take 64."""
    file = tmp_path / "huge.gguf"
    count = 1 << 27 if kind else 1 << 30
    file.write_bytes(header(key=b"x", kind=9, value=struct.pack("<IQ", kind, count)))
    with file.open("r+b") as opened:
        opened.truncate(8 << 30)
    code = (
        "import resource, sys; from pathlib import Path; from edge_router.catalog.gguf import GgufModel\n"
        "from edge_router.errors import WeightsCorrupt\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: GgufModel(Path(sys.argv[1]))\n"
        "except WeightsCorrupt as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    said, grown = done.stdout.splitlines()
    unit = 1 if sys.platform == "darwin" else 1 << 10
    assert "a header of at most" in said and int(grown) * unit < 16 << 20


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read"):
        gguf_config(tmp_path / "none.gguf")


def test_no_file_divides_plan_and_compile(gguf_file: Path) -> None:
    """Whatever four bytes of the header are: both read it alike, or both refuse it."""
    content = gguf_file.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(4, 900, 150):
        changed = bytearray(content)
        changed[at : at + 4] = rng.bytes(4)
        gguf_file.write_bytes(changed)
        said: list[object] = []
        for ask in (gguf_config, lambda path: open_weights(path).config):
            try:
                said.append(ask(gguf_file))
            except EdgeRouterError as error:
                said.append(None)
                assert not isinstance(error, MemoryError)
        assert said[0] == said[1] or said[1] is None  # compile looks at the tensors, too


def test_a_decision_model_is_told_as_one_and_never_taken_for_one_that_chats(tmp_path: Path) -> None:
    for extra in ({"decision.type": "laya"}, {"decision.type": 2, "decision.count": 3}):
        file = write(tmp_path / f"{len(extra)}.gguf", **extra)
        for ask in (lambda path: find_model(str(path)), lambda path: open_weights(path).config, gguf_config):
            with pytest.raises(InvalidModel, match=r"it is a decision model .*typed questions.*no text"):
                ask(file)
