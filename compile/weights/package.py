"""Writing an MLC model directory: shards with their index, the tokenizer, mlc-chat-config.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from edge_router.architectures import architecture
from edge_router.architectures.quantization import Quantization
from edge_router.compile.readers.base import WeightsReader, parse_json
from edge_router.compile.weights.conversation import conversation
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.parameters import Parameter, check, count, is_tied, parameters
from edge_router.compile.weights.prepare import prepared
from edge_router.compile.weights.quantize import Array, check_groups, quantized, stored_bytes
from edge_router.compile.weights.quantizers import check_quantizer
from edge_router.errors import InvalidModel, TemplateError
from edge_router.prompts.directory import lacking
from edge_router.prompts.template import ChatTemplate, special_tokens
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.prompts.turns import Turns, named_ends
from edge_router.records import dataclass
from edge_router.types import Progress, SilentProgress

SHARD_BYTES = 32 << 20  # of a shard, unless one array alone is larger

# What MLC assumes where a model doesn't say.
_SAMPLING = {
    "temperature": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "top_p": 1.0,
}


@dataclass(frozen=True, slots=True)
class PackageWindows:
    """Tokens: of a conversation, and of one prefill call.

    `max_batch_size` sequences at once are what MLC's own tool writes; whoever compiles says how many.
    """

    context_window_size: int
    prefill_chunk_size: int
    max_batch_size: int = 128


def write_model(
    reader: WeightsReader,
    folder: Path,
    *,
    config: Mapping[str, object],
    form: Quantization,
    quantizer: str,
    activations: Activations,
    windows: PackageWindows,
    threads: int = 1,
    progress: Progress | None = None,
) -> None:
    """Quantize the checkpoint and write it into `folder` as a directory that MLC and our engine load.

    `config` holds Hugging Face's keys; the reader's own is used where a key is missing there, and what both
    have must agree. `activations` may be empty. Raises `InvalidModel` before anything is written if tensors
    are missing or misshapen.
    """
    check_quantizer(quantizer)
    merged, wanted, lack = describe_model(reader, folder, config=config, form=form, windows=windows)
    if lack is not None and progress is not None:
        progress.note(lack)
    total = sum(stored_bytes(form, parameter) for parameter in wanted)
    with (
        (progress or SilentProgress()).step("quantize", total=total, unit="bytes") as step,
        ThreadPoolExecutor(max(1, threads)) as pool,
        ShardWriter(folder, numbers=count(wanted)) as shards,
    ):
        for ready in prepared(reader, wanted, form, quantizer, activations, merged):
            for name, array in quantized(
                ready.reader, ready.parameter, form, ready.choose, ready.moments, pool
            ):
                shards.add(name, array)
                step.advance(array.nbytes)


def describe_model(
    reader: WeightsReader,
    folder: Path,
    *,
    config: Mapping[str, object],
    form: Quantization,
    windows: PackageWindows,
) -> tuple[Mapping[str, object], tuple[Parameter, ...], str | None]:
    """Writes all but the weights into `folder`: whatever a header can be found wrong for is found here.

    What comes out is the configuration, the parameters to write, and what a chat will lack, if anything.
    Raises `InvalidModel`, `TemplateError`, `UnsupportedArchitecture`.
    """
    merged = _merged(config, reader)
    wanted = parameters(merged, str(reader.source))
    check(reader, wanted, merged)
    check_groups(form, wanted, reader.source)
    tokenizer = reader.tokenizer_files()
    for name, content in tokenizer.items():
        (folder / name).write_bytes(content)
    try:
        TextTokenizer(folder / "tokenizer.json")
        _check_rows(parse_json(tokenizer["tokenizer.json"], Path("tokenizer.json")), merged, reader.source)
        chat = chat_config(merged, form.name, tokenizer, {**merged, **reader.generation}, windows)
        _write_json(folder / "mlc-chat-config.json", chat)
        lack = lacking(folder, reader.source.name)
    except InvalidModel as error:  # of a folder that is gone when anyone reads this
        raise InvalidModel(reader.source, error.reason) from error
    except TemplateError as error:
        raise TemplateError(reader.source.name, error.reason) from error
    return merged, wanted, lack


class ShardWriter:
    """params_shard_N.bin files, written as the arrays come; tensor-cache.json when the block ends well.

    `numbers` is how many the unquantized model has.
    """

    def __init__(self, folder: Path, *, numbers: int, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._numbers, self._limit = folder, numbers, shard_bytes
        self._shards: list[dict[str, object]] = []
        self._file: BinaryIO | None = None
        self._records: list[dict[str, object]] = []
        self._written = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self._close()
        if kind is None:
            self._write_index()

    def add(self, name: str, array: Array) -> None:
        if self._file is not None and self._written + array.nbytes > self._limit:
            self._close()
        if self._file is None:
            self._file = self._path(len(self._shards)).open("wb")
            self._hash, self._records, self._written = hashlib.md5(usedforsecurity=False), [], 0
        # "raw" keeps float32 as it is; MLC's writer would store it as bfloat16.
        record = {"name": name, "shape": list(array.shape), "dtype": array.dtype.name, "format": "raw"}
        self._records.append({**record, "nbytes": array.nbytes, "byteOffset": self._written})
        content = array.reshape(-1).view(np.uint8).data
        self._file.write(content)
        self._hash.update(content)
        self._written += array.nbytes

    def _write_index(self) -> None:
        shards = [cast("list[dict[str, int]]", shard["records"]) for shard in self._shards]
        sizes = [record["nbytes"] for shard in shards for record in shard]
        metadata = {
            "ParamSize": len(sizes),
            "ParamBytes": float(sum(sizes)),
            "BitsPerParam": sum(sizes) * 8 / self._numbers,
        }
        _write_json(self._folder / "tensor-cache.json", {"metadata": metadata, "records": self._shards})

    def _path(self, number: int) -> Path:
        return self._folder / f"params_shard_{number}.bin"

    def _close(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        self._shards.append(
            {
                "dataPath": self._path(len(self._shards)).name,
                "format": "raw-shard",
                "nbytes": self._written,
                "records": self._records,
                "md5sum": self._hash.hexdigest(),
            }
        )


def model_config(config: Mapping[str, object], windows: PackageWindows) -> dict[str, object]:
    """MLC's `model_config`, its keys in MLC's order, from Hugging Face's config."""
    described = architecture(str(config["model_type"]))
    own = {key: config[key] for key in described.keys if config.get(key) is not None}
    heads = cast(int, config["num_attention_heads"])
    hidden = cast(int, config["hidden_size"])
    return {
        "hidden_size": hidden,
        "intermediate_size": config["intermediate_size"],
        "num_attention_heads": heads,
        "num_hidden_layers": config["num_hidden_layers"],
        "rms_norm_eps": config["rms_norm_eps"],
        "vocab_size": config["vocab_size"],
        "tie_word_embeddings": is_tied(config),
        "position_embedding_base": config.get("rope_theta") or 10000.0,
        "rope_scaling": config.get("rope_scaling"),
        "context_window_size": windows.context_window_size,
        "prefill_chunk_size": windows.prefill_chunk_size,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or hidden // heads,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "max_batch_size": windows.max_batch_size,
        "disaggregation": False,
        **own,
        **(described.experts.counted(config) if described.experts else {}),
    }


def chat_config(
    config: Mapping[str, object],
    quantization: str,
    tokenizer: Mapping[str, bytes],
    generation: Mapping[str, object],
    windows: PackageWindows,
) -> dict[str, object]:
    """mlc-chat-config.json, its keys in MLC's order."""
    names = ("tokenizer_config.json", "tokenizer.json")
    described, model = (parse_json(tokenizer[name], Path(name)) for name in names)
    end_ids = _ids(generation.get("eos_token_id"))
    begin = next(iter(_ids(generation.get("bos_token_id"))), None)
    template = described.get("chat_template")
    return {
        "version": "0.1.0",
        "model_type": config["model_type"],
        "quantization": quantization,
        "model_config": model_config(config, windows),
        "vocab_size": config["vocab_size"],
        "context_window_size": windows.context_window_size,
        "sliding_window_size": -1,
        "prefill_chunk_size": windows.prefill_chunk_size,
        "attention_sink_size": -1,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "active_vocab_size": min(cast(int, config["vocab_size"]), _tokens(model)),
        **{key: generation.get(key, default) for key, default in _SAMPLING.items()},
        **({"top_k": generation["top_k"]} if generation.get("top_k") is not None else {}),
        "tokenizer_files": sorted(tokenizer),
        "tokenizer_info": tokenizer_info(model),
        "conv_template": conversation(
            template if isinstance(template, str) else None,
            end_ids=list(dict.fromkeys([*end_ids, *_written_ends(described, model)])),
            begin_id=begin if described.get("add_bos_token") else None,
        ),
        "pad_token_id": generation.get("pad_token_id", 0),
        "bos_token_id": 1 if begin is None else begin,
        "eos_token_id": end_ids[0] if len(end_ids) == 1 else end_ids,
        "model_task": "chat",
        "embedding_metadata": None,
    }


def _ids(value: object) -> list[int]:
    """The token ids among what a file states, one or several."""
    listed = value if isinstance(value, list) else [value]
    return [item for item in listed if isinstance(item, int) and not isinstance(item, bool) and item >= 0]


def _written_ends(described: Mapping[str, object], tokenizer: Mapping[str, object]) -> list[int]:
    """Tokens that end an answer by what the template writes, or by their name. Raises `TemplateError`."""
    added = _added(tokenizer)
    source, names = described.get("chat_template"), special_tokens(described)
    template = ChatTemplate(source, model="", variables=names) if isinstance(source, str) else None
    return [*Turns.of(template).end_tokens(added), *named_ends(added.get)]


def tokenizer_info(tokenizer: Mapping[str, object]) -> dict[str, object]:
    """How MLC turns tokens back into text, told from tokenizer.json as its C++ code does."""
    decoders = _steps(tokenizer.get("decoder"), "decoders")
    byte_level = any(step.get("type") == "ByteLevel" for step in decoders)
    normalizers = _steps(tokenizer.get("normalizer"), "normalizers")
    return {
        "token_postproc_method": "byte_level" if byte_level else "byte_fallback",
        "prepend_space_in_encode": any(
            step.get("type") == "Prepend" and step.get("prepend") == "▁" for step in normalizers
        ),
        "strip_space_in_decode": any(
            (step.get("type"), step.get("content"), step.get("start"), step.get("stop"))
            == ("Strip", " ", 1, 0)
            for step in decoders
        ),
    }


def _steps(part: object, key: str) -> list[Mapping[str, object]]:
    if not isinstance(part, dict):
        return []
    return cast("list[Mapping[str, object]]", part.get(key) if part.get("type") == "Sequence" else [part])


def _tokens(tokenizer: Mapping[str, object]) -> int:
    """One more than the highest token."""
    return max((*_vocabulary(tokenizer).values(), *_added(tokenizer).values()), default=-1) + 1


def _check_rows(tokenizer: Mapping[str, object], config: Mapping[str, object], source: Path) -> None:
    """That what texts are made of has weights; marks of pictures and the like may have none.

    Raises `InvalidModel`.
    """
    added, rows = _added(tokenizer), cast(int, config["vocab_size"])
    highest = max((at for name, at in _vocabulary(tokenizer).items() if name not in added), default=-1)
    if highest >= rows:
        raise InvalidModel(source, f"its tokenizer makes {highest + 1} tokens, and {rows} have weights")


def _vocabulary(tokenizer: Mapping[str, object]) -> Mapping[str, int]:
    listed = cast("Mapping[str, object]", tokenizer["model"])["vocab"]
    if isinstance(listed, list):  # Unigram's, each with its score
        return {str(name): number for number, (name, _) in enumerate(listed)}
    return cast("Mapping[str, int]", listed)


def _added(tokenizer: Mapping[str, object]) -> Mapping[str, int]:
    listed = cast("list[Mapping[str, object]]", tokenizer.get("added_tokens") or [])
    return {str(token["content"]): int(cast(int, token["id"])) for token in listed}


def _merged(config: Mapping[str, object], reader: WeightsReader) -> dict[str, object]:
    """A model card's numbers over the file's own; a contradiction means that one of them is wrong."""
    own = reader.config
    for key, value in config.items():
        if value is not None and own.get(key) is not None and own[key] != value:
            raise InvalidModel(reader.source, f"{key} is {own[key]!r} here and {value!r} in the model card")
    return {**own, **{key: value for key, value in config.items() if value is not None}}


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
