"""The demo model with another chat template, so that it can be asked for what its own has no words for."""

from __future__ import annotations

import json
import os
import runpy
import shutil
from pathlib import Path

_TEMPLATES = runpy.run_path(str(Path(__file__).with_name("prompts") / "tool_templates.py"))
HERMES: str = _TEMPLATES["FAMILIES"]["hermes"]
THINKING: str = _TEMPLATES["THINKING"]
# Tools as Hermes is told of them, thoughts switched as Qwen's are.
TOOLS_AND_THOUGHTS = HERMES + THINKING[THINKING.index("{% if enable_thinking") :]


def with_template(weights: Path, template: str, folder: Path) -> Path:
    """`folder`, a ready model with these weights, which it shares where the disk lets it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in weights.iterdir():
        copy = folder / file.name
        if file.name.startswith(".") or file.name in ("manifest.json", "tokenizer_config.json"):
            continue
        copy.unlink(missing_ok=True)
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)
    config = json.loads((weights / "tokenizer_config.json").read_text(encoding="utf-8"))
    text = json.dumps({**config, "chat_template": template})
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return folder
