"""Arrows point one way, and importing the package costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from table import each

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edge_router"
COMPILE = ROOT / "compile"

# From the ground up; a room imports itself and what stands below it, also where an import waits in a function.
# All that lies in `routing` is a room each, and each folder of `engines`; its loose files are one together.
LAYERS = [
    {"errors", "former_names", "records"},
    {"chat", "parsing", "registry"},
    {"plugins", "routing.labels", "types", "webgpu_program"},
    {"architectures", "questions", "routing.evaluation", "system"},
    {"catalog", "config", "defects", "device", "ledger", "mlc_python", "store", "surfaces"},
    {"guard", "hub", "prompts", "response_cache", "routing.thresholds", "vram"},
    {"engines"},
    {"engines.local", "engines.remote", "metrics", "routing.chores", "routing.routers", "routing.rules"},
    {"engines.fleet", "engines.local_server", "engines.tvm", "engines.webgpu", "routing.confidence"},
    {"callers", "engines.mlc"},
    {"control"},
    {"api"},
    {"labelling", "server"},
    {"bench"},
    {"cli"},
    {"routellm", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
REGISTRIES = {"edge_router", "edge_router.engines"}  # hand out what lies in their own folders
# Training feeds a router as running does, with the same functions.
COMPILE_MAY_USE = set().union(*LAYERS[:6]) | {"routing.routers"}
HEAVY = {
    "gguf",
    "huggingface_hub",
    "jinja2",
    "keyring",
    "numpy",
    "onnxruntime",
    "openai",
    "rich",
    "starlette",
    "tokenizers",
    "torch",
    "tvm",
    "tvm_ffi",
    "typer",
    "uvicorn",
    "wgpu",
}


def modules(folder: Path, package: str) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*.py")):
        parts = [package, *file.relative_to(folder).with_suffix("").parts]
        yield ".".join(part for part in parts if part != "__init__"), file


def imports(file: Path, *, module_level: bool) -> Iterator[str]:
    """Names of ours that `file` imports, but for types; `module_level`: not inside functions."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if typing_only or (module_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if is_ours(node.module, alias))


def is_ours(package: str, alias: ast.alias) -> bool:
    """Whether `from package import alias` is a module of ours, not something in one."""
    at = ROOT.joinpath(*package.split("."), alias.name)
    return package.startswith("edge_router") and (at.is_dir() or at.with_suffix(".py").is_file())


def room(module: str) -> str:
    """The room that a module lies in; "" for the package itself."""
    names = module.split(".")[1:]
    folder = names[:1] == ["engines"] and PACKAGE.joinpath(*names[:2]).is_dir()
    if folder or names[:1] == ["routing"]:
        return ".".join(names[:2])
    return names[0] if names else ""


@each("module, file", list(modules(PACKAGE, "edge_router")))
def test_a_module_imports_only_what_stands_below(module: str, file: Path) -> None:
    own = room(module)
    if module in REGISTRIES or module == "edge_router.routing":
        return
    assert own in RANK, f"{own} has no place in the layers: give it one"
    for imported in imports(file, module_level=False):
        other = room(imported) if imported.startswith("edge_router.") else own
        if other in (own, "compile", "models", "routing") or imported in REGISTRIES:
            continue
        assert RANK[other] < RANK[own], f"{module} ({own}) imports {imported}, which stands no lower"


@each("module, file", list(modules(PACKAGE, "edge_router")))
def test_the_compiler_is_imported_where_something_is_built(module: str, file: Path) -> None:
    found = [name for name in imports(file, module_level=True) if name.startswith("edge_router.compile")]
    assert not found, f"{module} imports the compiler when it is imported"


@each("module, file", list(modules(COMPILE, "edge_router.compile")))
def test_the_compiler_uses_the_lower_layers_only(module: str, file: Path) -> None:
    for imported in imports(file, module_level=False):
        if imported.startswith("edge_router.") and room(imported) not in ("compile", "models"):
            assert room(imported) in COMPILE_MAY_USE, f"{module} imports {imported}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import edge_router; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()
    assert {name for name in loaded if name.startswith("edge_router")} == {"edge_router"}


def test_the_controller_is_imported_without_a_runtime() -> None:
    code = "import sys; from edge_router import Controller; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in done.stdout.split()} & HEAVY == set()


# Folders that know no protocol, and words that only OpenAI's has.
OWN_WORDS = ("chat", "control", "engines/local")
PROTOCOLS = ("edge_router.surfaces", "edge_router.api")
THEIRS = {
    *("choices", "delta", "function_call", "functions", "tool_call_id", "tool_choice", "parallel_tool_calls"),
    *("response_format", "json_schema", "chat.completion", "chat.completion.chunk", "text_completion"),
    *("reasoning_content", "image_url", "input_audio", "stream_options", "max_completion_tokens"),
}


def strings(file: Path) -> Iterator[str]:
    """Texts in a file's code; what documents it is no code."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def keys(file: Path) -> Iterator[str]:
    """Texts by which something is looked up."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        looked = node.keys if isinstance(node, ast.Dict) else []
        looked = [node.slice] if isinstance(node, ast.Subscript) else looked
        yield from (each.value for each in looked if isinstance(each, ast.Constant))


def test_the_core_speaks_words_of_its_own() -> None:
    for folder in OWN_WORDS:
        found = list(modules(PACKAGE / folder, "edge_router." + folder.replace("/", ".")))
        assert len(found) > 3, folder
        for module, file in found:
            used = imports(file, module_level=False)
            assert not [name for name in used if name.startswith(PROTOCOLS)], module
            assert not THEIRS.intersection(strings(file)), module
            assert "tool_calls" not in keys(file), module  # as a reason to finish it is ours
