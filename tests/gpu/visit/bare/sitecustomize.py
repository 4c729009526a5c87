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
    """The first of the finders that `import` asks."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if path is None and name not in THERE and name not in sys.stdlib_module_names:
            spec = PathFinder.find_spec(name)
            if spec is not None and spec.origin is not None and PACKAGES in spec.origin:
                raise ModuleNotFoundError(f"{name} is not on the machine with a GPU", name=name)
        return None


sys.meta_path.insert(0, Bare())
