"""The programs that can speak to this server, as data: what each has to be told, so that it asks here.

Texts are templates. They know `$url` (the server), `$v1` (where OpenAI's routes begin), `$model`, `$file`
(the client's own), `$key_env` (the variable with the server's key) and, where the server asks for none,
`$no_key`. What names a word that is not there is left out. The key itself is in no template: see
`Client.key_variable`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from string import Template
from typing import Any

from edge_router.config.sections import ServerConfig
from edge_router.errors import ConfigError, UnknownName
from edge_router.records import dataclass

NO_KEY = "edge-router"  # what stands for a key, which most clients want, where the server asks for none
OURS = "edge-router"  # how clients that name their models' makers call this one
MODELS = ("auto", "weak", "strong")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where it is reached then
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")

Environ = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """The server as a client is told of it. `key_env`: the variable with its key; None: it asks for none."""

    url: str
    model: str = "auto"
    key_env: str | None = None

    def words(self, file: Path | None = None) -> dict[str, str]:
        key = {"no_key": NO_KEY} if self.key_env is None else {"key_env": self.key_env}
        place = {} if file is None else {"file": str(file)}
        return {"url": self.url, "v1": f"{self.url}/v1", "model": self.model, **key, **place}


@dataclass(frozen=True, slots=True)
class ClientFile:
    """The client's own file that says the same for good.

    A `content` that is a mapping is merged into the JSON that is there, a text is a part of it between marks.
    `command` is how the client is started then. `needed`: there is no other way to tell it an address.
    """

    place: Callable[[Environ], Path]
    content: str | Mapping[str, object]
    command: tuple[str, ...]
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """`variables` that are mappings are given as JSON. `key_variable` is the one that takes the server's key.

    `without`: variables that would lead it elsewhere, or hand it a key that is not this server's. `alone`:
    what it is told to do where the user says nothing. `prompt_tokens`: how long its prompts are before a word
    of the user's, measured as bytes / 4.
    """

    name: str
    title: str
    program: str
    install: str
    variables: Mapping[str, object] = field(default_factory=dict)
    key_variable: str | None = None
    arguments: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    file: ClientFile | None = None
    prompt_tokens: int = 0


def variables(client: Client, target: Target, environ: Environ) -> dict[str, str]:
    """What is set for the client, but its key; `environ` is what it would have without."""
    found = _filled(client.variables, target.words(place(client, environ)))
    given = {name: _json(value) for name, value in found.items() if value is not None}
    return {**given, **_unproxied(target.url, environ)}


def arguments(client: Client, target: Target, environ: Environ, own: tuple[str, ...] = ()) -> list[str]:
    """What stands behind the program's name: ours, then the user's `own`, which so win."""
    words = target.words(place(client, environ))
    ours = [_filled(argument, words) for argument in client.arguments]
    return [argument for argument in ours if argument is not None] + list(own or client.alone)


def content(client: Client, target: Target, environ: Environ) -> str | dict[str, object]:
    """What belongs into the client's file; in a mapping None is to be taken out."""
    assert client.file is not None
    words = target.words(place(client, environ))
    if not isinstance(client.file.content, str):
        found: dict[str, object] = _filled(client.file.content, words)
        return found
    lines = [_filled(line, words) for line in client.file.content.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines if line is not None)


def started(client: Client, target: Target, environ: Environ) -> list[str]:
    """How the client is started once its file is written."""
    assert client.file is not None
    words = target.words(place(client, environ))
    return [Template(word).substitute(words) for word in client.file.command]


def place(client: Client, environ: Environ) -> Path | None:
    """Of the client's own file."""
    return None if client.file is None else client.file.place(environ)


def find(name: str) -> Client:
    """Raises `UnknownName`. The program's own name will do, too."""
    from edge_router.cli.session import nearest

    for client in CLIENTS:
        if name.lower() in (client.name, client.program):
            return client
    known = tuple(client.name for client in CLIENTS)
    raise UnknownName("client", name, known, nearest(name, known))


def address(server: ServerConfig) -> str:
    """Where clients on this machine reach it. Raises `ConfigError` where the configuration does not say."""
    if server.port == 0:
        raise ConfigError("server.port", 0, "takes a free port, which a client cannot know: name one")
    host = _EVERYWHERE.get(server.host.strip("[]"), server.host.strip("[]"))
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise ConfigError("server.host", server.host, "must be a name or an address")
    return f"http://[{host}]:{server.port}" if ":" in host else f"http://{host}:{server.port}"


def _unproxied(url: str, environ: Environ) -> dict[str, str]:
    """Keeps a proxy of the environment out of the way, which most clients ask for this machine, too."""
    lower = {name.lower() for name, value in environ.items() if value.strip()}
    if not lower.intersection(_PROXIES):
        return {}
    host = url.partition("//")[2].rpartition(":")[0]
    listed = [*environ.get("NO_PROXY", "").split(","), *environ.get("no_proxy", "").split(",")]
    all_of_them = [entry.strip() for entry in (*listed, host, host.strip("[]")) if entry.strip()]
    value = ",".join(dict.fromkeys(all_of_them))
    return {"NO_PROXY": value} if os.name == "nt" else {"NO_PROXY": value, "no_proxy": value}


def _filled(template: object, words: Mapping[str, str]) -> Any:
    """`template` with words in the place of their names; None for a text with a name that has no word."""
    if isinstance(template, Mapping):
        return {Template(key).substitute(words): _filled(value, words) for key, value in template.items()}
    if not isinstance(template, str):
        return template
    try:
        return Template(template).substitute(words)
    except KeyError:
        return None


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(_present(value), separators=(",", ":"))


def _present(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {key: _present(item) for key, item in value.items() if item is not None}


def _home(environ: Environ) -> Path:
    return Path(environ.get("USERPROFILE" if os.name == "nt" else "HOME") or Path.home())


def _below(folder: str, *names: str, variable: str | None = None) -> Callable[[Environ], Path]:
    """A file below `folder` of the user's own, or below the one that `variable` names."""

    def found(environ: Environ) -> Path:
        named = environ.get(variable, "") if variable else ""
        return Path(named or _home(environ) / folder).joinpath(*names)

    return found


def _llm_file(environ: Environ) -> Path:
    import typer

    return Path(
        environ.get("LLM_USER_PATH") or typer.get_app_dir("io.datasette.llm"), "extra-openai-models.yaml"
    )


_CLAUDE = {
    "ANTHROPIC_BASE_URL": "$url",
    "ANTHROPIC_MODEL": "$model",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "$model",
    # Else its first block of system text changes with each question, and the KV cache knows nothing behind it
    "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}
_OPENCODE = {
    "provider": {
        OURS: {
            "npm": "@ai-sdk/openai-compatible",
            "name": OURS,
            "options": {"baseURL": "$v1", "apiKey": "{env:$key_env}"},
            "models": {name: {"name": name} for name in (*MODELS, "$model")},
        }
    },
    "model": f"{OURS}/$model",
    "small_model": f"{OURS}/$model",
}
_CODEX = (
    ("model", "$model"),
    ("model_provider", "edge_router"),
    ("model_providers.edge_router.name", "edge_router"),
    ("model_providers.edge_router.base_url", "$v1"),
    ("model_providers.edge_router.wire_api", "responses"),
    ("model_providers.edge_router.env_key", "$key_env"),
    ("analytics.enabled", "false"),
    ("check_for_update_on_startup", "false"),
)
_CODEX_PROFILE = """
model = "$model"
model_provider = "edge_router"

[model_providers.edge_router]
name = "edge_router"
base_url = "$v1"
wire_api = "responses"
env_key = "$key_env"
"""
_AIDER_FILE = """
model: openai/$model
openai-api-base: $v1
openai-api-key: $no_key
"""
_LLM_FILE = "".join(
    f"""
- model_id: {OURS}/{name}
  model_name: {name}
  api_base: $v1
  api_key_name: $key_env
  supports_schema: true
  supports_tools: true
"""
    for name in MODELS
).replace("\n\n", "\n")
_CONTINUE_FILE = """
name: edge_router
version: 1.0.0
schema: v1
models:
  - name: $model
    provider: openai
    model: $model
    apiBase: $v1
    apiKey: $no_key
    apiKey: $${{ secrets.$key_env }}
    roles: [chat, edit, apply]
"""

CLIENTS = (
    Client(
        "claude",
        "Claude Code",
        "claude",
        "npm install -g @anthropic-ai/claude-code",
        # The last one keeps the `env` of the user's settings.json from leading it elsewhere
        variables={**_CLAUDE, "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST": "1"},
        key_variable="ANTHROPIC_AUTH_TOKEN",
        without=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_CUSTOM_HEADERS",
            "ANTHROPIC_UNIX_SOCKET",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_ANTHROPIC_AWS",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_FOUNDRY",
            "CLAUDE_CODE_USE_GATEWAY",
            "CLAUDE_CODE_USE_MANTLE",
            "CLAUDE_CODE_USE_VERTEX",
        ),
        file=ClientFile(
            _below(".claude", "settings.json", variable="CLAUDE_CONFIG_DIR"),
            {"env": {**_CLAUDE, "ANTHROPIC_AUTH_TOKEN": "$no_key"}},
            ("claude",),
        ),
        prompt_tokens=22_000,
    ),
    Client(
        "codex",
        "Codex CLI",
        "codex",
        "npm install -g @openai/codex",
        # In one word each, and without quotes, which are lost on the way through npm's batch files on Windows
        arguments=tuple(f"--config={key}={value}" for key, value in _CODEX),
        file=ClientFile(
            _below(".codex", "edge_router.config.toml", variable="CODEX_HOME"),
            _CODEX_PROFILE,
            ("codex", "--profile", "edge_router"),
        ),
        prompt_tokens=12_500,
    ),
    Client(
        "opencode",
        "opencode",
        "opencode",
        "npm install -g opencode-ai",
        variables={
            "OPENCODE_CONFIG_CONTENT": {**_OPENCODE, "share": "disabled", "autoupdate": False},
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        },
        file=ClientFile(
            _below(".config", "opencode", "opencode.json", variable="XDG_CONFIG_HOME"),
            _OPENCODE,
            ("opencode",),
        ),
        prompt_tokens=7_500,
    ),
    Client(
        "aider",
        "aider",
        "aider",
        "python -m pip install aider-chat",
        variables={
            "AIDER_ANALYTICS": "false",
            "AIDER_CHECK_UPDATE": "false",
            "AIDER_SHOW_MODEL_WARNINGS": "false",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches a list of prices
        },
        key_variable="OPENAI_API_KEY",
        # No variables: a project's .env counts more than they
        arguments=("--model=openai/$model", "--openai-api-base=$v1"),
        file=ClientFile(_below(".aider.conf.yml"), _AIDER_FILE, ("aider",)),
        prompt_tokens=700,
    ),
    Client(
        "continue",
        "Continue CLI",
        "cn",
        "npm install -g @continuedev/cli",
        variables={"CONTINUE_CLI_ENABLE_TELEMETRY": "0"},
        arguments=("--config=$file",),
        file=ClientFile(
            _below(".continue", "edge_router.yaml"), _CONTINUE_FILE, ("cn", "--config", "$file"), needed=True
        ),
        prompt_tokens=1_400,
    ),
    Client(
        "goose",
        "goose",
        "goose",
        "https://goose-docs.ai",
        variables={
            "GOOSE_PROVIDER": "openai",
            "GOOSE_MODEL": "$model",
            "OPENAI_HOST": "$url",
            "OPENAI_BASE_PATH": "v1/chat/completions",
        },
        key_variable="OPENAI_API_KEY",
        alone=("session",),
    ),
    Client(
        "llm",
        "llm",
        "llm",
        "python -m pip install llm",
        variables={"LLM_MODEL": f"{OURS}/$model"},
        key_variable="OPENAI_API_KEY",
        alone=("chat",),
        file=ClientFile(_llm_file, _LLM_FILE, ("llm", "-m", f"{OURS}/$model"), needed=True),
    ),
    Client(
        "qwen",
        "Qwen Code",
        "qwen",
        "npm install -g @qwen-code/qwen-code",
        key_variable="OPENAI_API_KEY",
        arguments=("--auth-type=openai", "--openai-base-url=$v1", "--model=$model"),
        # It asks a proxy for every address, whatever NO_PROXY says
        without=("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"),
        prompt_tokens=17_000,
    ),
)
