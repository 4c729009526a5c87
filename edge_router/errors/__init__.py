"""Every error that edge_router raises.

EdgeRouterError
  InvalidInput                    the caller can mend it
    InvalidClientFile             another program's file that nothing can be added to
    ClientNotConfigured           a program that takes an address from a file only
    InvalidRequest                a field of a chat request
      ContextOverflow             the prompt is longer than the context
        StateOverflow             ... which may be cut, for typed questions are asked about it
      UnsupportedRequest          it asks for what the weak model cannot do
      Blocked                     a rule of the user's says no
      UnknownResponse             an earlier answer that is not kept here
        PreviousResponseGone      ... and that the request goes on from
    CallerRefused                 what the key of a request does not allow
      ModelNotAllowed
      CallerLimited               more than it may ask now
    UnknownName                   with the nearest known names
      UnknownModel
    ConfigError                   a key of the configuration
    InvalidRules                  the user's file of rules
    UnsupportedArchitecture       no model definition for it
    UnsupportedTarget             this TVM cannot compile for it
    InvalidModel                  config, tensors or model directory contradict each other
    InvalidRouter                 an ONNX file that is not a router
    InvalidData                   a data file without the needed columns or with unusable rows
      InvalidLabels               ... of typed questions with known answers
  DuplicateName                   two packages register one name
  PluginFailed                    an entry point could not be loaded
  ProviderUnavailable             the router cannot run where it was told to
  WeightsError                    getting weights
    WeightsUnavailable            not here and not to be fetched
    WeightsAmbiguous              several models, and not said which
    WeightsCorrupt                here, but not what was promised
  ArtifactError                   compiled things
    ArtifactMissing               not built yet
    ArtifactCorrupt               half-written or damaged
    BuildFailed                   a step of the compiler failed
      LinkerMissing               no way to link a library
  StorageError                    files
    DiskFull
    NotWritable
    LockTimeout                   another process holds the artifact for too long
  EngineError                     producing an answer
    EngineUnavailable             cannot start: package, device or memory missing
      OutOfMemory
      EngineRestarting            its process has ended, and is started again soon
      LocalServerDown             the server that the weak model lies in does not answer
      ServedModelMissing          ... or has no such model
    CannotCalibrate               there is nothing to measure
    GenerationFailed              broke while generating
    InternalError                 a mistake in this program, or in a plug-in
    Cancelled                     the caller no longer wanted it
    LowConfidence                 the weak model was too unsure to be shown
    TemplateError                 the model's chat template
    StrongError                   the remote model
      StrongNotConfigured
      Withheld                    the guard or a rule keeps the question on this machine
      BudgetSpent                 this month's money for it is spent, or cannot be counted
      StrongUnreachable
      StrongRedirected            it points to another address
      StrongTimeout
      StrongUnauthorized
      StrongRateLimited
      StrongQuotaExceeded         the money or the quota there is used up
      StrongRefused               a part of the request that it does not take, which can't be left out
      StrongFailed                any other refusal
      StrongInterrupted           the stream ended in the middle
      StrongGarbled               an answer that is not OpenAI's format
      StrongEmpty                 an answer with nothing in it
  ServerError
    PortInUse
    UnsafeBind                    a public address without a key
    NoServer                      none of ours answers where clients were to ask
    ServerKeyRefused              it asks for a key, and not for this one
  MissingExtra                    an optional package is not installed
  Closed                          used after its `close`

An error carries facts; the sentence with the next command is written at the edge (cli/terminal/sentences.py,
server/errors.py). `str(error)` is a plain statement of the facts. No error ever holds an API key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from edge_router.errors.redaction import hidden, shown

ECHO = 200  # characters of what somebody sent that are repeated to him
REASON = 800  # of what is said of a file, which may name things in it that have no end


def clipped(text: str, most: int = ECHO) -> str:
    """`text`, which may be as long as its sender likes, as it can be repeated: its beginning and its end."""
    if len(text) <= most:
        return text
    begin = most * 2 // 3
    return f"{text[:begin]} ... {text[begin - most :]} ({len(text)} characters)"


class EdgeRouterError(Exception):
    """Whatever goes wrong here on purpose. Can be copied and pickled.

    `about`: the model that it happened to, as it is typed.
    """

    about: str | None = None  # where it is known

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[object, ...]]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(
    kind: type[EdgeRouterError], args: tuple[object, ...], facts: dict[str, object]
) -> EdgeRouterError:
    error = kind.__new__(kind, *args)  # its own __init__ takes facts, not the text
    error.__dict__.update(facts)
    return error


# ---- input -------------------------------------------------------------------------------------------------


class InvalidInput(EdgeRouterError):
    """The caller can mend it."""


class InvalidRequest(InvalidInput):
    def __init__(self, param: str | None, reason: str) -> None:
        self.param, self.reason = param, reason
        super().__init__(f"{param}: {reason}" if param else reason)


class ContextOverflow(InvalidRequest):
    """`prompt_tokens` tokens do not fit into `context_window_size` with at least one left for the answer.

    `longest` is the longest context that the model was trained for, where that is known.
    """

    def __init__(
        self, prompt_tokens: int, context_window_size: int, longest: int | None = None, at: str = "messages"
    ) -> None:
        self.prompt_tokens, self.context_window_size = prompt_tokens, context_window_size
        self.longest, self.over_by = longest, prompt_tokens - (context_window_size - 1)
        more = f"{self.over_by} more than the context of {context_window_size} leaves room for"
        super().__init__(at, f"the prompt has {prompt_tokens} tokens, {more}")


class StateOverflow(ContextOverflow):
    """What typed questions are about is too long, and was not to be cut; its middle can be left out."""


class UnsupportedRequest(InvalidRequest):
    """The weak model cannot do what `param` asks for, and no strong one may be asked instead."""


class Blocked(InvalidRequest):
    """By the rule of that name; `said`: what its writer wants the caller to be told."""

    def __init__(self, rule: str, said: str = "") -> None:
        self.rule, self.said = rule, said
        super().__init__(None, f"the rule {rule!r} lets nobody answer this{f': {said}' if said else ''}")


class CallerRefused(InvalidInput):
    """What the key that a request came with does not allow. Tells of no other caller."""


class ModelNotAllowed(CallerRefused):
    """`name` as it was asked for; `allowed`: what may be."""

    def __init__(self, name: str, allowed: Sequence[str]) -> None:
        self.name, self.allowed = clipped(name), tuple(allowed)
        super().__init__(f"the model {self.name!r} is not among those of this key: {', '.join(self.allowed)}")


class CallerLimited(CallerRefused):
    """More than `limit` of `what`, such as requests a minute. `retry_after` in seconds."""

    def __init__(self, what: str, limit: int, retry_after: float) -> None:
        self.what, self.limit, self.retry_after = what, limit, retry_after
        super().__init__(f"this key is good for {limit:,} {what}, which are used up")


class UnknownResponse(InvalidRequest):
    """`id` of an answer, or of a part of one, that was never kept here or is no longer."""

    def __init__(self, param: str, id: str) -> None:
        self.id = clipped(id)
        super().__init__(param, f"there is no {self.id!r} here, or no longer")


class PreviousResponseGone(UnknownResponse):
    """The request goes on from it."""


class UnknownName(InvalidInput):
    def __init__(self, kind: str, name: str, known: Sequence[str], nearest: Sequence[str] = ()) -> None:
        self.kind, self.name = kind, clipped(hidden(name))
        self.known, self.nearest = tuple(dict.fromkeys(known)), tuple(nearest)
        names = ", ".join(self.nearest or self.known) or "none"
        which = "nearest" if self.nearest else "known"
        super().__init__(f"there is no {kind} named {self.name!r}; {which}: {names}")


class UnknownModel(UnknownName):
    def __init__(self, name: str, known: Sequence[str], nearest: Sequence[str] = ()) -> None:
        super().__init__("model", name, known, nearest)


class InvalidClientFile(InvalidInput):
    """Of the program that `edge-router launch` calls `client`; `reason` goes on from `path`."""

    def __init__(self, client: str, path: Path, reason: str) -> None:
        self.client, self.path, self.reason = client, path, reason
        super().__init__(f"{path} {reason}")


class ClientNotConfigured(InvalidInput):
    """`path` does not say yet what `client` needs to know."""

    def __init__(self, client: str, path: Path) -> None:
        self.client, self.path = client, path
        super().__init__(f"{client} is told an address by {path} only, which does not name this one")


class ConfigError(InvalidInput):
    """`source` says where the value came from: a file, an environment variable, an argument.

    `value` is without what may be a key in it. `misplaced_key`: one stood where none belongs.
    """

    def __init__(
        self, key: str, value: object, reason: str, source: str = "", *, misplaced_key: bool = False
    ) -> None:
        if key != "file":  # whose value is the path of the file that the sentence names
            key, value = clipped(hidden(key)), shown(key, value)
            value = clipped(value) if isinstance(value, str) else value
        self.key, self.value, self.reason, self.source = key, value, reason, source
        self.misplaced_key = misplaced_key
        super().__init__(f"{key} = {value!r}{f' ({source})' if source else ''}: {reason}")


class InvalidRules(InvalidInput):
    """`file` of the user's own rules; `rule`: the name or number of the one that is meant, if one is."""

    def __init__(self, file: str | Path, reason: str, rule: str | None = None) -> None:
        self.file, self.reason, self.rule = str(file), clipped(reason, REASON), rule
        super().__init__(f"{file}: {'' if rule is None else f'rule {clipped(rule)}: '}{self.reason}")


class UnsupportedArchitecture(InvalidInput):
    def __init__(self, name: str, supported: Sequence[str]) -> None:
        self.name, self.supported = clipped(name), tuple(supported)
        known = ", ".join(self.supported)
        super().__init__(f"the architecture {self.name!r} is not supported; supported: {known}")


class UnsupportedTarget(InvalidInput):
    def __init__(self, target: str, reason: str) -> None:
        self.target, self.reason = target, reason
        super().__init__(f"cannot compile for {target}: {reason}")


class InvalidModel(InvalidInput):
    def __init__(self, where: str | Path, reason: str) -> None:
        self.where, self.reason = str(where), clipped(reason, REASON)
        super().__init__(f"{where}: {self.reason}")


class InvalidRouter(InvalidInput):
    def __init__(self, where: str | Path, reason: str) -> None:
        self.where, self.reason = str(where), clipped(reason, REASON)
        super().__init__(f"{where}: {self.reason}")


class InvalidData(InvalidInput):
    def __init__(self, where: str | Path, reason: str) -> None:
        self.where, self.reason = str(where), clipped(reason, REASON)
        super().__init__(f"{where}: {self.reason}")


class InvalidLabels(InvalidData):
    """A file of typed questions with known answers."""


class DuplicateName(EdgeRouterError):
    def __init__(self, kind: str, name: str, owners: tuple[str, str]) -> None:
        self.kind, self.name, self.owners = kind, name, owners
        super().__init__(f"the {kind} {name!r} is registered by both {owners[0]} and {owners[1]}")


class PluginFailed(EdgeRouterError):
    def __init__(self, group: str, name: str, owner: str, reason: str) -> None:
        self.group, self.name, self.owner, self.reason = group, name, owner, reason
        super().__init__(f"the plugin {name!r} of {owner} ({group}) could not be loaded: {reason}")


class ProviderUnavailable(EdgeRouterError):
    """One of onnxruntime's execution providers, by our name for it."""

    def __init__(self, provider: str, reason: str) -> None:
        self.provider, self.reason = provider, reason
        super().__init__(f"the router cannot run on {provider}: {reason}")


class MissingExtra(EdgeRouterError):
    """`extra` is the name in `pip install 'edge-router[extra]'`."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package, self.extra, self.purpose = package, extra, purpose
        super().__init__(f"{purpose} needs the package {package}, which is not installed")


# ---- weights and artifacts ---------------------------------------------------------------------------------


class WeightsError(EdgeRouterError):
    """Something about a model's weights."""


class WeightsUnavailable(WeightsError):
    """`what` to fetch and, where a person can do it by hand, `place` to put it."""

    def __init__(self, what: str, reason: str, place: Path | None = None) -> None:
        self.what, self.reason, self.place = what, clipped(reason, REASON), place
        super().__init__(f"{what} could not be fetched: {self.reason}")


class WeightsAmbiguous(WeightsError):
    """`names` are the models that `what` holds, `sources` how each is asked for, the best first.

    `wanted` is what was asked for, where none or several of them are that.
    """

    def __init__(self, what: str, names: Sequence[str], sources: Sequence[str], wanted: str = "") -> None:
        self.what, self.names, self.sources, self.wanted = what, tuple(names), tuple(sources), wanted
        some = clipped(", ".join(self.names[:20]), REASON) + (", ..." if len(self.names) > 20 else "")
        asked = f", and {wanted!r} names none or several of them" if wanted else ""
        super().__init__(f"{what} holds {len(self.names)} models in GGUF{asked}: {some}")


class WeightsCorrupt(WeightsError):
    def __init__(self, path: Path, expected: str, found: str) -> None:
        self.path, self.expected, self.found = path, clipped(expected, REASON), clipped(found, REASON)
        super().__init__(f"{path} is damaged: expected {self.expected}, found {self.found}")


class ArtifactError(EdgeRouterError):
    """Something about a compiled artifact."""


class ArtifactMissing(ArtifactError):
    """`model` has no artifact of `kind` that fits this machine and these settings."""

    def __init__(self, model: str, kind: str) -> None:
        self.model, self.kind = model, kind
        super().__init__(f"no {kind} of {model} has been built for this machine")


class ArtifactCorrupt(ArtifactError):
    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, clipped(reason, REASON)
        super().__init__(f"{path}: {self.reason}")


class BuildFailed(ArtifactError):
    def __init__(self, model: str, step: str, reason: str) -> None:
        self.model, self.step, self.reason = model, step, reason
        super().__init__(f"building {model} failed at {step}: {reason}")


class LinkerMissing(BuildFailed):
    def __init__(self, model: str, tried: Sequence[str]) -> None:
        self.tried = tuple(tried)
        super().__init__(model, "link", f"no C compiler found (tried {', '.join(self.tried)})")


class StorageError(EdgeRouterError):
    """The file system refused."""


class DiskFull(StorageError):
    """Bytes; `needed` is None where it is not known beforehand."""

    def __init__(self, path: Path, needed: int | None = None, free: int | None = None) -> None:
        self.path, self.needed, self.free = path, needed, free
        amount = f" ({needed} bytes needed, {free} free)" if needed is not None else ""
        super().__init__(f"no space left for {path}{amount}")


class NotWritable(StorageError):
    def __init__(self, path: Path, reason: str = "") -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot write to {path}{f': {reason}' if reason else ''}")


class LockTimeout(StorageError):
    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        super().__init__(f"another process has held {path} for more than {seconds:.0f} s")


# ---- engines -----------------------------------------------------------------------------------------------


class EngineError(EdgeRouterError):
    """Producing an answer failed."""


class EngineUnavailable(EngineError):
    def __init__(self, engine: str, reason: str) -> None:
        self.engine, self.reason = engine, reason
        super().__init__(f"the engine {engine} cannot start: {reason}")


class OutOfMemory(EngineUnavailable):
    """Bytes; None where the runtime does not tell. `budget`: `weak.vram_budget` where that is what lacks."""

    def __init__(
        self,
        engine: str,
        reason: str,
        needed: int | None = None,
        free: int | None = None,
        budget: int | None = None,
    ) -> None:
        self.needed, self.free, self.budget = needed, free, budget
        super().__init__(engine, reason)


class EngineRestarting(EngineUnavailable):
    """Its process has ended, for that `reason`, and is started again in `again_s` seconds."""

    def __init__(self, engine: str, reason: str, again_s: float) -> None:
        self.again_s = again_s
        super().__init__(engine, f"{reason}; it is started again in {again_s:.0f} s")


class LocalServerDown(EngineUnavailable):
    """At `url`; `reason` is why it counts as not there. `kind`: which server it was, where that is known."""

    def __init__(self, url: str, reason: str, kind: str = "") -> None:
        self.url, self.kind = url, kind
        super().__init__("remote", f"{url}: {reason}")
        self.reason = reason


class ServedModelMissing(EngineUnavailable):
    """`server` (a title) at `url` has the models `known`, and not the one called `name`."""

    def __init__(self, name: str, server: str, url: str, known: Sequence[str], kind: str = "") -> None:
        self.name, self.server, self.url, self.kind = clipped(name), server, url, kind
        self.known = tuple(known)
        super().__init__("remote", f"{server} at {url} has no model {self.name!r}")


class CannotCalibrate(EngineError):
    """It answers, but there is nothing to measure."""

    def __init__(self, model: str, reason: str) -> None:
        self.model, self.reason = model, reason
        super().__init__(f"{model} cannot be calibrated: {reason}")


class GenerationFailed(EngineError):
    def __init__(self, engine: str, reason: str) -> None:
        self.engine, self.reason = engine, reason
        super().__init__(f"the engine {engine} failed while generating: {reason}")


class InternalError(EngineError):
    """A mistake in the program: `component` met an exception of the class `kind` at `place` (file:line).

    What that exception says is left to it (`__cause__`), for it may hold what a user wrote.
    """

    noted = False  # whether it has been logged and counted

    def __init__(self, component: str, kind: str, place: str = "") -> None:
        self.component, self.kind, self.place = component, kind, place
        super().__init__(f"something broke in the {component}: {kind}{f' at {place}' if place else ''}")

    @classmethod
    def of(cls, component: str, error: BaseException) -> InternalError:
        """For an exception that nobody raised on purpose."""
        made = cls(component, type(error).__name__, _place(error.__traceback__))
        made.__cause__ = error
        return made


_MISTAKES = (
    *(TypeError, AttributeError, NameError, LookupError, AssertionError, ArithmeticError),
    *(NotImplementedError, RecursionError),
)


def is_mistake(error: BaseException) -> bool:
    """Whether it is what Python raises where a program is wrong, in the midst of another library's errors.

    TVM names errors of its own after Python's, and marks them.
    """
    return isinstance(error, _MISTAKES) and not hasattr(error, "__tvm_ffi_error__")


def _place(trace: TracebackType | None) -> str:
    """The innermost frame: the file with its folder, and the line."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{'/'.join(Path(trace.tb_frame.f_code.co_filename).parts[-2:])}:{trace.tb_lineno}"


class Cancelled(EngineError):
    def __init__(self) -> None:
        super().__init__("the answer was cancelled")


class LowConfidence(EngineError):
    """`chance` of being right was below `bound`, seen after `tokens` tokens of which none was shown."""

    def __init__(self, chance: float, bound: float, tokens: int) -> None:
        self.chance, self.bound, self.tokens = chance, bound, tokens
        put = f"the weak model's chance of being right was put at {chance:.2f}"
        super().__init__(f"{put} after {tokens} tokens, below {bound:g}")


class TemplateError(EngineError):
    def __init__(self, model: str, reason: str) -> None:
        self.model, self.reason = model, clipped(reason, REASON)
        super().__init__(f"the chat template of {model} failed: {self.reason}")


class StrongError(EngineError):
    """The remote model. `endpoint` is its address without credentials."""

    section = (
        "strong"  # of the configuration that says where it is; of several, endpoints.NAME; questions; judge
    )

    def __init__(self, endpoint: str, reason: str) -> None:
        self.endpoint, self.reason = endpoint, reason
        super().__init__(f"{endpoint}: {reason}" if endpoint else reason)

    def setting_of(self, name: str) -> str:
        """The key of that section that holds its base_url, its model and so on."""
        named = self.section.startswith("endpoints.")
        return f"{self.section}.{'models' if name == 'model' and named else name}"


class StrongNotConfigured(StrongError):
    def __init__(self) -> None:
        super().__init__("", "no strong model is configured")


class Withheld(StrongError):
    """`found`: what the request holds that must not leave, in words. `rule`: of the user's that says so.

    `lacks`: what the weak model does not do, which would have to answer it.
    """

    def __init__(self, found: Sequence[str] = (), rule: str | None = None, lacks: str = "") -> None:
        self.found, self.rule, self.lacks = tuple(found), rule, lacks
        why = f"the rule {rule!r} says so" if rule is not None else f"it holds {', '.join(found)}"
        unable = f", and the weak model {lacks}" if lacks else ""
        super().__init__("", f"the question stays on this machine: {why}{unable}")


class BudgetSpent(StrongError):
    """Asking it would pass a budget; None: of all callers together, which is told to none of them.

    `problem`: why nobody can tell what was spent, if so.
    """

    def __init__(self, budget: float | None, problem: str = "", *, period: str = "month") -> None:
        self.budget, self.problem, self.period = budget, problem, period
        why = f"what was spent cannot be told ({problem})" if problem else f"this {period}'s money is spent"
        super().__init__("", why if budget is None else f"{why}, of a budget of {budget:g}")


class StrongUnreachable(StrongError):
    """No connection could be made."""


class StrongRedirected(StrongError):
    """It sends whoever asks to `target`, another address, which the prompt does not follow."""

    def __init__(self, endpoint: str, status: int, target: str) -> None:
        self.status, self.target = status, target
        super().__init__(endpoint, f"it points to {target} (HTTP {status}), where the prompt is not sent")


class StrongTimeout(StrongError):
    """`setting` is the key of the configuration that says how long `seconds` are."""

    def __init__(self, endpoint: str, seconds: float, setting: str = "strong.timeout_s") -> None:
        self.seconds, self.setting = seconds, setting
        super().__init__(endpoint, f"no answer within {seconds:g} s")


class StrongUnauthorized(StrongError):
    """401 or 403. `key_source` says where the key was taken from, never the key; None: no key was found."""

    def __init__(self, endpoint: str, status: int, key_source: str | None) -> None:
        self.status, self.key_source = status, key_source
        what = f"the key from {key_source} was refused" if key_source else "it wants a key and none was found"
        super().__init__(endpoint, f"{what} (HTTP {status})")


class StrongRateLimited(StrongError):
    """429. `retry_after` in seconds, where the server said so."""

    def __init__(self, endpoint: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        wait = f"; it asks to wait {retry_after:g} s" if retry_after is not None else ""
        super().__init__(endpoint, f"too many requests (HTTP 429){wait}")


class StrongPaused(StrongError):
    """No endpoint that could answer may be asked now. `retry_after` in seconds, where that is known."""

    def __init__(self, endpoint: str, reason: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(endpoint, reason)


class StrongQuotaExceeded(StrongError):
    """The account there has no money or no quota left, whenever it is asked again."""

    def __init__(self, endpoint: str, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(endpoint, f"the quota there is used up (HTTP {status}): {message}")


class StrongRefused(StrongError):
    """What is configured, or asked for, does not go with this endpoint and can't be mended or left out.

    No reason to let the weak model answer, or it would answer for ever with nobody told.
    """

    def __init__(self, endpoint: str, status: int, field: str, message: str) -> None:
        self.status, self.field, self.message = status, field, message
        super().__init__(endpoint, f"it does not take {field} as it is (HTTP {status}): {message}")


class StrongFailed(StrongError):
    def __init__(self, endpoint: str, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(endpoint, f"HTTP {status}: {message}")


class StrongInterrupted(StrongError):
    """The stream ended before its end."""


class StrongGarbled(StrongError):
    """Bytes came that are not an OpenAI answer."""


class StrongEmpty(StrongError):
    """An answer without a word, a call, a thought or a refusal."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, "the answer was empty")


# ---- server ------------------------------------------------------------------------------------------------


class ServerError(EdgeRouterError):
    """The local server could not start, or is not there."""


class PortInUse(ServerError):
    """`setting`: the key that says which port."""

    def __init__(self, host: str, port: int, setting: str = "server.port") -> None:
        self.host, self.port, self.setting = host, port, setting
        super().__init__(f"{host}:{port} is in use")


class UnsafeBind(ServerError):
    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(f"{host} is reachable from other machines and no key is set")


class NoServer(ServerError):
    """`client` was to be started, and asks at `url`."""

    def __init__(self, url: str, reason: str, client: str) -> None:
        self.url, self.reason, self.client = url, reason, client
        super().__init__(f"no server of edge-router answers at {url}: {reason}")


class ServerKeyRefused(ServerError):
    """`variable` holds another key than the one that is asked for, or none."""

    def __init__(self, url: str, variable: str, is_set: bool, client: str) -> None:
        self.url, self.variable, self.is_set, self.client = url, variable, is_set, client
        super().__init__(f"the server at {url} asks for {'another' if is_set else 'a'} key")


# ---- life --------------------------------------------------------------------------------------------------


class Closed(EdgeRouterError, RuntimeError):
    """`what` was used after it had been closed."""

    def __init__(self, what: str = "controller") -> None:
        self.what = what
        super().__init__(f"the {what} has been closed")
