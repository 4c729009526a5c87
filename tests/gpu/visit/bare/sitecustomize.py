"""First on PYTHONPATH in a dry run: what is installed here and not on the machine with a GPU is not to be found."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder

# numpy, onnxruntime, tokenizers, huggingface_hub, jinja2, psutil and pytest, with what they need
THERE = {
    "numpy", "onnxruntime", "tokenizers", "huggingface_hub", "jinja2", "psutil", "pytest", "_pytest",
    "anyio", "certifi", "click", "filelock", "flatbuffers", "fsspec", "google", "h11", "hf_xet", "httpcore", "httpx",
    "httpcore2", "httpx2", "idna", "iniconfig", "markupsafe", "packaging", "pluggy", "py", "pygments", "requests",
    "sniffio", "tqdm", "truststore", "typing_extensions", "yaml",
}  # fmt: skip
PACKAGES = "site-packages"


class Bare:
    """In place of the finder that looks through sys.path."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)  # type: ignore[arg-type]
        known = path is not None or name in THERE or name in sys.stdlib_module_names
        if known or spec is None or spec.origin is None or PACKAGES not in spec.origin:
            return spec
        return None


sys.meta_path[:] = [Bare() if finder is PathFinder else finder for finder in sys.meta_path]
