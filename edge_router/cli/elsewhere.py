"""Other programs' words (Ollama's, llama.cpp's, mlc_llm's, lemonade's) and ours: verbs, options, sentences.

What means the same does the same. What has no counterpart here is answered with what there is instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

VERBS: Mapping[str, tuple[str, ...]] = {
    "run": ("chat", "--model"),
    "pull": ("models", "pull"),
    "download": ("models", "pull"),
    "list": ("models", "list"),
    "ls": ("models", "list"),
    "show": ("models", "show"),
    "rm": ("models", "remove"),
    "remove": ("models", "remove"),
    "delete": ("models", "remove"),
    "generate": ("chat",),
    "complete": ("chat",),
    "status": ("doctor",),
    "convert_weight": ("compile",),
}

SENTENCES: Mapping[str, str] = {
    "stop": "A server lets go of its model by itself where unloading is set; what it holds is listed by "
    "`edge-router ps`. To unload a model that nobody asks for ten minutes: "
    "edge-router config set weak.unload_after_s=600",
    "unload": "A server lets go of its model by itself where unloading is set, after ten idle minutes with: "
    "edge-router config set weak.unload_after_s=600",
    "load": "A model is loaded by the process that answers: edge-router serve --model NAME",
    "create": "Nothing is created here: a folder, a GGUF file or a repository is a model as it is, a system "
    "message and settings stand beside it: edge-router chat --model FILE.gguf --system TEXT",
    "cp": "Models are not copied; another name for one is its path: edge-router models list",
    "push": "Nothing is published from here; what is here is listed by: edge-router models list",
    "search": "Nothing is searched for on the network; a repository that you know is named as it is: "
    "edge-router models pull hf:OWNER/REPO",
    "gen_config": "A configuration is made by compiling, and the windows are options of that: "
    "edge-router compile MODEL --context-window-size 8192",
    "start": "A server is started with: edge-router serve",
    "version": "The version is told by: edge-router --version",
    "logs": "What a server has said stands in its terminal, or in the file that is named by: "
    "edge-router service status",
    "update": "Nothing updates itself: the package comes by pip, and models are fetched again with: "
    "edge-router models pull",
}

OPTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "--context",
            "--context-size",
            "--context-length",
            "--ctx-size",
            "--num-ctx",
            "--max-model-len",
            "-c",
        ),
        "--context-window-size",
    ),
    **dict.fromkeys(
        ("--chunk", "--chunk-size", "--ubatch-size", "--batch-size", "-ub"), "--prefill-chunk-size"
    ),
    **dict.fromkeys(("--n-predict", "--predict", "--num-predict", "-n"), "--max-tokens"),
    **dict.fromkeys(("--hf-repo", "-hf"), "--model"),
    **dict.fromkeys(("--vram", "--memory", "--budget"), "--vram-budget"),
    **dict.fromkeys(("--n-parallel", "--parallel", "-np"), "--conversations"),
    "--temp": "--temperature",
    "--system-prompt": "--system",
    "--quant": "--quantization",
    "--think": "--thinking",
    "--hidethinking": "--no-thinking",
    "-t": "--threads",
}
# What a verb without such an option takes as a setting instead.
_SETTINGS: Mapping[str, str] = {
    "--context-window-size": "weak.context_window_size=TOKENS",
    "--prefill-chunk-size": "weak.prefill_chunk_size=TOKENS",
    "--vram-budget": "weak.vram_budget=SIZE",
    "--conversations": "weak.max_sequences=COUNT",
}


def in_our_words(args: Sequence[str]) -> list[str]:
    """Of ours an option may be the last word, which then takes what follows."""
    *verb, last = VERBS.get(args[0], args[:1])
    follows = list(args[1:])
    takes = not last.startswith("-") or (follows and not follows[0].startswith("-"))
    return [*verb, last, *follows] if takes else [*verb, *follows]


def refused(verb: Any, words: Sequence[str]) -> str | None:
    """What to say of the first option among `words` that `verb` has under another name; None for none."""
    has = {name for param in verb.params for name in (*param.opts, *param.secondary_opts)}
    for word in words:
        name = word.partition("=")[0]
        if name == "--":
            return None
        ours = OPTIONS.get(name)
        if ours is None or name in has:
            continue
        if ours in has:
            return f"No such option: {name} Did you mean {ours}?"
        if ours in _SETTINGS:
            return f"No such option: {name}; here it is a setting: --set {_SETTINGS[ours]}"
    return None
