"""`python -m mlc_llm compile`: the options are those of mlc_llm/cli/compile.py."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from .log import library_text, log

OVERRIDES = (
    "context_window_size",
    "sliding_window_size",
    "prefill_chunk_size",
    "attention_sink_size",
    "max_batch_size",
    "tensor_parallel_shards",
    "pipeline_parallel_stages",
)
QUANTIZATIONS = (
    *("q0f16", "q0bf16", "q0f32", "q3f16_0", "q3f16_1", "q4f16_0", "q4f16_1", "q4f16_2", "q4f32_1"),
    *("q4bf16_0", "q4bf16_1"),
)


def compile_(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("mlc_llm compile")
    parser.add_argument("model")
    parser.add_argument("--quantization", choices=QUANTIZATIONS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--host", default="auto")
    parser.add_argument("--opt", default="O2")
    parser.add_argument("--overrides", default="")
    parser.add_argument("--output", "-o", required=True)
    parsed = parser.parse_args(argv)
    overrides = argparse.ArgumentParser("model config override values")
    for name in OVERRIDES:
        overrides.add_argument(f"--{name}", type=int, default=None)
    named = [f"--{item}" for item in parsed.overrides.split(";") if item]
    found, unknown = overrides.parse_known_args(named)
    values = vars(found)
    if unknown:
        print(f"Warning: unknown overrides are dropped: {unknown}")  # noqa: T201
    config = json.loads((Path(parsed.model) / "mlc-chat-config.json").read_text(encoding="utf-8"))
    assert config["quantization"] == parsed.quantization
    assert Path(parsed.output).parent.is_dir()
    given = {name: value for name, value in values.items() if value is not None}
    log("compile", device=parsed.device, quantization=parsed.quantization, overrides=given)
    windows = ("context_window_size", "prefill_chunk_size", "max_batch_size")
    made = library_text(**{name: given.get(name, config["model_config"][name]) for name in windows})
    match os.environ.get("MLC_STANDIN_COMPILE"):
        case "hang":
            time.sleep(600)
        case "fail":
            sys.exit("No target detected from device: vulkan. Please specify explicitly")
        case "nonzero":  # as on Windows
            Path(parsed.output).write_text(made, encoding="utf-8")
            sys.exit(3)
    Path(parsed.output).write_text(made, encoding="utf-8")


if __name__ == "__main__":
    assert sys.argv[1] == "compile"
    compile_(sys.argv[2:])
