"""Tiny random models as transformers writes them, packaged and compiled by us, and transformers' own answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COMMON: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 288,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 256,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONTEXT, CHUNK, BATCH = 128, 32, 2


@dataclass(frozen=True)
class Twin:
    """The same weights twice: `model_dir` and `library` are ours, `theirs` is transformers' model."""

    model_dir: Path
    library: Path
    theirs: Any
    config: Mapping[str, Any]  # ours, of the directory

    def wanted(self, tokens: Sequence[int]) -> np.ndarray:
        """transformers' logits after each token, shape (tokens, vocabulary)."""
        import torch

        with torch.no_grad():
            return self.theirs(torch.tensor([list(tokens)])).logits[0].float().numpy()


def random_model(architecture: str, numbers: Mapping[str, Any]) -> Any:
    """A transformers model in float32 whose every tensor matters."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(architecture, **{**COMMON, **numbers})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    rng = torch.Generator().manual_seed(7)
    for name, tensor in model.named_parameters():
        if "norm" in name:
            low = -0.5 if architecture.startswith("gemma") else 0.5
            tensor.data.uniform_(low, low + 1, generator=rng)
        elif name.endswith("bias"):
            tensor.data.normal_(0, 1, generator=rng)
        else:
            tensor.data.normal_(0, 1.5 / tensor.shape[-1] ** 0.5, generator=rng)
    return model


def write_checkpoint(model: Any, folder: Path, tiny: Any) -> None:
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tiny.tokenizer()), encoding="utf-8")
    described = {"eos_token": "<|im_end|>", "chat_template": tiny.TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")


def twin(
    architecture: str, numbers: Mapping[str, Any], folder: Path, tiny: Any, form: str = "q4f16_1"
) -> Twin:
    """Written by transformers, read, quantized and compiled by us; transformers gets our weights back."""
    import torch

    from edge_router.compile.link import library_name
    from edge_router.compile.readers import open_weights
    from edge_router.compile.weights.equalize import Activations
    from edge_router.compile.weights.package import PackageWindows, write_model
    from edge_router.compile.weights.quantize import supported
    from edge_router.device import host

    theirs = random_model(architecture, numbers)
    checkpoint, model_dir = folder / "checkpoint", folder / "packaged"
    write_checkpoint(theirs, checkpoint, tiny)
    model_dir.mkdir()
    reader = open_weights(checkpoint)
    write_model(
        reader, model_dir, config=reader.config, form=supported(form), quantizer="round",
        activations=Activations(), windows=PackageWindows(CONTEXT, CHUNK, BATCH),
    )  # fmt: skip
    reader.close()
    packaged = open_weights(model_dir)
    state = {name: torch.from_numpy(packaged.rows(name)) for name in packaged.tensors}
    state = in_their_words(theirs, architecture, state)
    packaged.close()
    missing, unknown = theirs.load_state_dict(state, strict=False)
    assert not unknown
    assert set(missing) <= {"lm_head.weight"}, missing
    config = json.loads((model_dir / "mlc-chat-config.json").read_text(encoding="utf-8"))
    library = folder / library_name()
    compiled(config, library, host(), form)
    return Twin(model_dir, library, theirs, config)


def in_their_words(theirs: Any, model_type: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors under the names and in the shapes that transformers has for them."""
    from edge_router.architectures import architecture

    described, state = architecture(model_type), _together(state)
    names = {described.checkpoint_name(name): name for name in theirs.state_dict()}
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    found = {names.get(name, name): tensor for name, tensor in state.items()}
    return {name: tensor.reshape(shapes.get(name, tensor.shape)) for name, tensor in found.items()}


def _together(state: Mapping[str, Any]) -> dict[str, Any]:
    """As transformers holds experts while it computes: all matrices of a kind in one tensor."""
    import torch

    plain = {name: value for name, value in state.items() if ".experts." not in name}
    layers = {name.partition(".experts.")[0] for name in state if ".experts." in name}
    for layer in layers:
        numbers = {int(name.split(".")[5]) for name in state if name.startswith(f"{layer}.experts.")}
        each = [f"{layer}.experts.{expert}" for expert in sorted(numbers)]
        gate_up = [torch.cat([state[f"{one}.{part}_proj.weight"] for part in ("gate", "up")]) for one in each]
        plain[f"{layer}.experts.gate_up_proj"] = torch.stack(gate_up)
        plain[f"{layer}.experts.down_proj"] = torch.stack([state[f"{one}.down_proj.weight"] for one in each])
    return plain


def compiled(config: Mapping[str, Any], library: Path, machine: Any, form: str = "q4f16_1") -> None:
    from edge_router.compile.library import compile_library
    from edge_router.compile.targets import host_target

    compile_library(config, form, host_target(machine), library)


def errors(twin: Twin, runner: Any) -> dict[str, float]:
    """Of prefill, in chunks, and decode, alone and for two: the largest of a logit over all logits' spread."""
    tokens = np.random.default_rng(1).integers(0, runner.vocab_size, 100).tolist()
    wanted = twin.wanted(tokens)[:, : runner.vocab_size]
    assert wanted[:, 1:].std() > 0.5  # else close would say nothing
    found: dict[str, tuple[np.ndarray, int]] = {}
    runner.add_sequence(0)
    found["prefill"] = runner.prefill(0, tokens[:32]).copy(), 31
    found["second chunk"] = runner.prefill(0, tokens[32:64]).copy(), 63
    found["odd chunk"] = runner.prefill(0, tokens[64:83]).copy(), 82
    for at in range(83, 90):
        found[f"decode at {at}"] = runner.decode([0], tokens[at : at + 1])[0].copy(), at
    runner.add_sequence(1)
    runner.prefill(1, tokens[:20])
    both = runner.decode([0, 1], [tokens[90], tokens[20]]).copy()
    found["decode of two, first"], found["second"] = (both[0], 90), (both[1], 20)
    spread = wanted.std()
    return {name: float(np.abs(logits - wanted[at]).max() / spread) for name, (logits, at) in found.items()}
