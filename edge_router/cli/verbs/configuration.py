"""`edge-router config`: what is set, where each value came from, and a file to begin with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import asked, is_someone_there
from edge_router.cli.verbs import traffic
from edge_router.cli.verbs.config_file import alone, edited, plain_value, save, toml
from edge_router.config.callers import CALLERS
from edge_router.config.file import flat, read_text
from edge_router.config.named_tables import ENDPOINTS
from edge_router.config.settings import Config, converted, is_known, keys
from edge_router.config.variables import variable_of
from edge_router.errors.redaction import HIDDEN, address, hidden

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

# One line for each key; a test holds this against the keys that there are.
COMMENTS: Mapping[str, str] = {
    "offline": "Never use the network: no strong model, nothing is fetched.",
    "tiers": "More than two models, each for the scores from its own threshold on. Default: two models.",
    "router.name": "What scores the prompts: mf, bert, sw_ranking, static; or the controls length, random.",
    "router.threshold": "Scores from here on go to the strong model, 0 to 1. Default: by the weak model.",
    "router.strong_share": "Hold this share of the calls for the strong model, 0 to 1; moves the threshold.",
    "router.threads": "Threads of the router.",
    "router.chores": "Titles, tags and the like of a conversation stay here without a score.",
    "router.provider": "Where it runs: cpu, cuda, coreml, webgpu, or auto, a GPU if one works.",
    "weak.model": "A name from `edge-router models list`, a folder, a file or hf:OWNER/REPO.",
    "weak.engine": "What runs it: auto, tvm, webgpu, mlc, scripted, or remote: a server on this machine.",
    "weak.device": "Where it runs: auto, cpu, cuda, vulkan, metal or d3d12; with mlc also rocm or opencl.",
    "weak.quantization": "The format of its weights. Default: the card's, of ready weights their own.",
    "weak.quantizer": "How they get there: gptq (best), weighted, signed, round. Default: the card's.",
    "weak.activations": "What a processor rounds them to: int16, or int8: coarser, but prompts are read in "
    "two thirds of the time.",
    "weak.kv_cache": "Keys and values in float16, or int8: half the memory for each token (tvm on a "
    "processor, webgpu); auto: as the weights' format has it.",
    "weak.context_window_size": "Tokens of prompt and answer together. Default: the model's card.",
    "weak.prefill_chunk_size": "Tokens of the prompt that are computed at once. Default: the model's card.",
    "weak.sliding_window_size": "Tokens that are looked back at; what lies before is forgotten. "
    "Default: as the model was made.",
    "weak.attention_sink_size": "How many of them at the beginning always stay. Default: as the model says.",
    "weak.max_sequences": "Answers that are made at the same time. Default: up to 4, as memory has room.",
    "weak.vram_budget": "Memory it may take: 12GiB, or 80% of what is free. Default: 90%.",
    "weak.unload_after_s": "Seconds without a question after which its memory is given back. Default: never.",
    "weak.base_url": "The engine remote: its server. Default: the first at a usual port that has the model.",
    "weak.trusted_hosts": "The engine remote: other machines that it may be on; nothing private goes there.",
    "weak.api_key_env": "The engine remote: the variable that holds its key. Default: it wants none.",
    "weak.server_timeout_s": "The engine remote: seconds to wait for its next token, loading included.",
    "weak.overflow": "A conversation beyond the context: escalate, window (go on and forget), truncate; "
    "auto: escalate where that is possible, else truncate.",
    "weak.min_confidence": "Escalate, before anything is shown, where its chance of being right is lower. "
    "Default: off; see calibrate --confidence.",
    "weak.tools": "Call tools itself: yes, no; auto: where calibrate --tools has found it good enough.",
    "weak.thinking": "Think before an answer, where the request does not say. Default: the model's card.",
    "weak.end_loops": "End an answer that only repeats itself, over and over.",
    "weak.speculation": "Several tokens at once where an answer repeats what was said; the text is the same. "
    "On a processor, by the engine tvm.",
    "weak.keep_prefix": "What it reads of system messages, kept on the disk for the next start: off; marked "
    '(by cache = "keep"); cache_control, by Anthropic\'s clients, too; system, always. Default: marked, '
    "and off where ledger.enabled is false.",
    "weak.keep_max_size": "How much of that to keep; what was used the longest ago goes first.",
    "weak.threads": "Threads. Default: the physical cores.",
    "weak.build": "Fetch and compile what is missing when it is needed.",
    "weak.retry_load_s": "Seconds in which a model that could not be loaded is not tried again.",
    "weak.on_defect": "A mistake in the program: error, or escalate (ask the other model).",
    "mlc.python": "The engine mlc: the Python that has mlc_llm. Default: this one.",
    "mlc.mode": "The engine mlc: local, interactive or server. Default: by weak.max_sequences.",
    "mlc.gpu_memory_utilization": "The engine mlc: the GPU's share it may take, 0 to 1. Default: 0.85.",
    "mlc.load_timeout_s": "The engine mlc: seconds after which loading counts as failed.",
    "strong.engine": "What asks it: openai or scripted.",
    "strong.base_url": "An OpenAI-compatible endpoint. Default: OpenAI's own.",
    "strong.model": "Its name there. Default: there is no strong model.",
    "strong.api_key_env": "The environment variable that holds its key.",
    "strong.keyring_service": "Where the system's keyring has its key, if that variable is not set.",
    "strong.timeout_s": "Seconds to wait for the next token of an answer.",
    "strong.first_token_timeout_s": "Seconds to wait for the first one, a thought included; then the weak "
    "model answers. Default: strong.timeout_s.",
    "strong.total_timeout_s": "Seconds that a whole answer may take.",
    "strong.connect_timeout_s": "Seconds to wait for a connection.",
    "strong.max_retries": "How often to try again, within 12 seconds.",
    "strong.price_in": "What a million prompt tokens cost, in any money; for replay and budgets.",
    "strong.price_out": "What a million tokens of its answers cost.",
    "strong.monthly_budget": "The most it may cost in a month; raises the threshold so that it lasts.",
    "strong.hedge": "Ask a second endpoint where the first is silent for longer than usual; both are paid.",
    "strong.hedge_after_ms": "How long that is. Default: what 95% of its own answers took to begin.",
    "strong.strategy": "Which of several endpoints is asked: first (that works, in the file's order), "
    "least_busy, weighted, cheapest.",
    "questions.base_url": "Where typed questions go of which the weak model is unsure, up to /v1. Default: "
    "to the strong model, in words.",
    "questions.protocol": "What it speaks: decisions (OpenAI's) or systemone (TypeSafe's).",
    "questions.model": "Which model it is asked for, such as jev-latest.",
    "questions.api_key_env": "The variable that holds its key. Default: it wants none.",
    "questions.local": "Its model is on this machine: it gets what must not leave that, too, also offline.",
    "questions.price_in": "What a million tokens of states and questions cost. Default: strong.price_in.",
    "questions.price_out": "What a million tokens of its answers cost, where it counts any.",
    "judge.base_url": "An endpoint that the router decision asks, up to /v1. Default: the weak model.",
    "judge.protocol": "What it speaks: decisions (OpenAI's) or systemone (TypeSafe's).",
    "judge.model": "Which model it is asked for.",
    "judge.api_key_env": "The variable that holds its key. Default: it wants none.",
    "judge.timeout_s": "Seconds that the router decision may take; then a learned one scores the query.",
    "guard.level": "What must not reach the strong model: off; standard: keys, card numbers and IBANs stay "
    "here; strict: e-mail addresses, telephones, the home folder and the machine's name are hidden, too.",
    "guard.secrets": "Keys, tokens, passwords: allow, redact (hidden, and put back into the answer), local.",
    "guard.cards": "Card numbers: allow, redact, local (the question stays here). Default: as the level.",
    "guard.ibans": "IBANs: allow, redact, local.",
    "guard.emails": "E-mail addresses: allow, redact, local.",
    "guard.phones": "Telephone numbers: allow, redact, local.",
    "guard.paths": "The home folder of this machine: allow, redact, local.",
    "guard.hosts": "The name of this machine: allow, redact, local.",
    "rules.file": "Your own rules, asked before any score. Default: rules.toml beside the configuration.",
    "server.host": "The address to listen on. Other machines get in with a key only.",
    "server.port": "The port; 0 takes a free one.",
    "server.ollama_port": "Another port for Ollama's clients, which look at 11434. Default: none.",
    "server.api_key_env": "The environment variable that holds the key asked of clients.",
    "server.allowed_hosts": "Host names to answer to, beside localhost, 127.0.0.1 and [::1].",
    "server.allowed_origins": "Web pages that may call, such as https://example.org.",
    "server.resident": "Let serve answer edge-router chat, of the same user and with the same settings.",
    "server.dashboard": "A page at / that shows what went where and why, for who opens the link of serve.",
    "ledger.enabled": "Keep a local record of decisions.",
    "ledger.store_prompts": "Keep the prompts in it too.",
    "ledger.upgrade": "What the strong one was not there for, to be bettered: ask (by hand), auto, off.",
    "response_cache.mode": "Give an answer again to who asks the same: off; memory (until the program ends); "
    "disk, in a file that only you may read.",
    "response_cache.max_age_s": "How old such an answer may be, in seconds.",
    "response_cache.max_size": "How much of them to keep; what was asked for the longest ago goes first.",
    "response_cache.sampled": "Also answers drawn at random: without a temperature, or with one above 0.",
    "response_cache.tools": "Also answers that may call tools.",
    "response_cache.similarity": "Also to who asks nearly the same, from this cosine on, 0 to 1; "
    "edge-router calibrate --cache finds it. Default: only the same.",
    "sessions.enabled": "Conversations stay with their model, and results of tools with who made the call.",
    "sessions.stickiness": "How much a prompt to be read again counts against a switch; 0: not at all.",
    "sessions.ttl_s": "Seconds after its last answer for which a conversation is remembered.",
    "sessions.max_fingerprints": "How many are remembered, two or more of each answer; no words are.",
}

# The same for each endpoint, `endpoints.NAME.models` and so on.
ENDPOINT_COMMENTS: Mapping[str, str] = {
    "protocol": "What it speaks: openai.",
    "base_url": "Its address. Default: OpenAI's own.",
    "models": "Its models by their names there; the first is asked where nobody names another.",
    "api_key_env": "The environment variable that holds its key, or the keyring's name for it. Default: no "
    "key is sent, but to OpenAI's own address that of OPENAI_API_KEY.",
    "price_in": "What a million prompt tokens cost there.",
    "price_out": "What a million tokens of its answers cost.",
    "requests_per_minute": "How many questions it gets in any minute. Default: any number.",
    "tokens_per_minute": "How many tokens, of prompts and answers. Default: any number.",
    "concurrency": "How many questions at once. Default: any number.",
    "weight": "Its share, where strong.strategy is weighted or least_busy; 0: only where no other is left.",
    "tags": "Names that several may share: a request's model, or a rule's then, asks those that have it.",
}

# The same for each caller, `callers.NAME.models` and so on.
CALLER_COMMENTS: Mapping[str, str] = {
    "api_key_env": "The environment variable that holds its key.",
    "key_hash": "Of its key, as `edge-router keys new NAME` writes it here.",
    "model": "What it gets where it asks for auto: weak, a router with a threshold, an endpoint, ...",
    "models": "What it may ask for and be answered by, such as weak, auto, an endpoint. Default: all.",
    "threshold": "Its own in the place of router.threshold.",
    "strong_share": "Its own in the place of router.strong_share.",
    "monthly_budget": "The most the strong model may cost for it in a month; raises its threshold.",
    "daily_budget": "The same for a day.",
    "requests_per_minute": "How much it may ask in any minute. Default: any number.",
    "tokens_per_minute": "How many tokens, of prompts and answers. Default: any number.",
    "concurrency": "How many answers at once. Default: any number.",
}
NAMED_COMMENTS = {ENDPOINTS: ENDPOINT_COMMENTS, CALLERS: CALLER_COMMENTS}

# What others than the configuration know.
NAMES = frozenset(
    {
        "router.name",
        *("weak.model", "weak.engine", "weak.device", "weak.quantization", "weak.quantizer"),
        "strong.engine",
    }
)


@app.callback()
def config() -> None:
    """The configuration: show it, write a file to begin with, or set keys in it."""


@app.command()
def show(
    ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False
) -> None:
    """Every value, and where it came from: default, the file, an environment variable or an argument."""
    session = Session(ctx, json=json)
    loaded = session.config()
    found = {key: (shown(key, loaded.get(key)), loaded.origin(key)) for key in loaded.every_key()}
    found |= _listed(loaded)
    if json:
        output.write_json({key: {"value": value, "origin": origin} for key, (value, origin) in found.items()})
        return
    rows = [(key, _text(value), origin) for key, (value, origin) in found.items()]
    output.table(("key", "value", "from"), rows)
    if not session.options.quiet:
        file = session.config_file
        state = "read" if file.is_file() else f"not there; write it with: {session.command('config', 'init')}"
        output.say(f"{file}: {state}", style="dim")


@app.command("keys")
def keys_(
    ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False
) -> None:
    """Every key, what it is when nobody sets it, and what it means; reads no configuration."""
    Session(ctx, json=json)
    defaults = Config()
    named = (f"{table}.NAME.{name}" for table, comments in NAMED_COMMENTS.items() for name in comments)
    known = (*keys(), *named)
    if json:
        facts = {key: {"default": shown(key, defaults.get(key)), "about": about(key)} for key in known}
        output.write_json(facts)
        return
    rows = [(key, _text(defaults.get(key)), about(key)) for key in known]
    output.table(("key", "default", "about"), rows)


@app.command()
def init(
    ctx: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew where a file is there; a copy of that is kept.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take what is proposed for this machine.")] = False,
) -> None:
    """Propose a model and windows that fit this machine, and write a file in which every key is explained.

    What --set says is set in it; what is proposed is set for a yes only, or with --yes. Where a file is
    there, what it sets stays. In the end it is said what share of typical prompts would go where.
    """
    session = Session(ctx)
    file = session.config_file
    text = read_text(file) if file.exists() and not force else None
    before = Config() if text is None else Config().replace(**flat(text, str(file)))
    wanted = _with_proposal(before.replace(**session.options.settings), session, yes=yes)
    _check_names(session.options.settings, {} if text is None else flat(text, str(file)), session)
    new = {key: wanted.get(key) for key in wanted.every_key() if wanted.get(key) != before.get(key)}
    with alone(file, session.progress):
        # A person was asked meanwhile: what others have set since then stays.
        anew = force or not file.exists()
        written = toml_of(wanted) if anew else edited(read_text(file), new, toml_of, str(file))
        backup = save(file, written)
    _told(backup)
    if not session.options.quiet:
        traffic.tell(wanted, session)
    output.write(f"{file}\n")


@app.command("set")
def set_(
    ctx: typer.Context,
    assignments: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="Such as weak.model=Qwen3-4B.")
    ],
) -> None:
    """Set keys in the file; everything else stays as it is, and a copy of the file is kept beside it.

    KEY= without a value takes the key out, so that its default counts.
    """
    session, values = Session(ctx), dict[str, object]()
    for assignment in assignments:
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise typer.BadParameter(f"{hidden(assignment)!r} is not KEY=VALUE, such as weak.threads=2")
        # What it can only be beside others, which may be in the file, is looked at with them.
        values[key] = None if not value and is_known(key) else converted(key, value)
    written = write(values, session)
    _told(written.backup)
    for note in written.notes:
        output.say(note, style="yellow")
    output.write(f"{written.file}\n")


class WrittenSettings(NamedTuple):
    """Where settings are now, where what was there before lies, and what counts instead of them."""

    file: Path
    backup: Path | None
    notes: tuple[str, ...]


def write(values: Mapping[str, object], session: Session) -> WrittenSettings:
    """Set keys in the session's file; None takes a key out. Raises `EdgeRouterError`."""
    file = session.config_file
    with alone(file, session.progress):
        if file.exists():
            text = edited(read_text(file), values, toml_of, str(file))
        else:
            given = {key: value for key, value in values.items() if value is not None}
            text = toml_of(Config().replace(**given))
        _check_names(values, flat(text, str(file)), session)
        backup = save(file, text)
    variables = [(variable_of(key), key) for key in values if variable_of(key) in os.environ]
    notes = tuple(f"The environment's {variable} counts instead of {key}." for variable, key in variables)
    return WrittenSettings(file, backup, notes)


def _check_names(values: Mapping[str, object], there: Mapping[str, object], session: Session) -> None:
    """That what is set names something that is here; what is `there` beside it may be wrong.

    An engine that is there counts, for one of another package takes models of its own.
    """
    names = {key: value for key, value in values.items() if key in NAMES and value is not None}
    if not names:
        return
    from edge_router import plugins
    from edge_router.control.names import check_names, check_router
    from edge_router.routing.routers import routers

    weak = any(key.startswith("weak.") for key in names)
    engine = {"weak.engine": there["weak.engine"]} if weak and "weak.engine" in there else {}
    wanted = Config().replace(**{**engine, **names})
    check_names(wanted, weak=weak, strong="strong.engine" in names)
    check_router(wanted, plugins.extend(routers(session.paths.routers), plugins.ROUTERS))


def _told(backup: Path | None) -> None:
    if backup is not None:
        output.say(f"What was there before is in {backup}.", style="dim")


def _with_proposal(wanted: Config, session: Session, *, yes: bool) -> Config:
    """Nothing is looked for where nobody can say yes, and nothing proposed for what is set."""
    if not (yes or is_someone_there()):
        if not session.options.quiet:
            taking = session.command("config", "init", "--yes")
            output.say(f"Nobody can be asked here, so no model is proposed; take what fits with: {taking}")
        return wanted
    if is_someone_there() and not yes:
        from edge_router.cli.verbs.local_servers import offered

        served = offered(wanted, session)
        if served is not None:
            return served
    from edge_router.api import proposals
    from edge_router.cli.verbs.proposal import show

    proposed = proposals.propose(wanted, paths=session.paths)
    if proposed is None:
        output.say("No model fits into the memory that is free; none is set.", style="yellow")
        return wanted
    show(proposed)
    if not proposed.settings:
        return wanted
    if yes or asked("Set it so?", default=True):
        return wanted.replace(**proposed.settings)
    return wanted


def toml_of(settings: Config) -> str:
    """All keys with their comments; those that are defaults are commented out."""
    lines = ["# edge_router's configuration. A line counts once its leading # is gone.", ""]
    section = ""
    for key in settings.every_key():
        head, _, name = key.rpartition(".")
        if head != section:
            lines += [f"[{head}]", ""]
            section = head
        value = settings.get(key)
        line = f"{name} = {toml(value)}" if value is not None else f"{name} ="
        given = settings.origin(key) != "default"
        variable = f" ({variable_of(key)})" if key in COMMENTS else ""
        lines += [f"# {about(key)}{variable}", line if given else f"# {line}", ""]
    return "\n".join(lines)


def _listed(loaded: Config) -> dict[str, tuple[object, str]]:
    """Prices that nobody set, where a list has them: the value of each key, and the list."""
    from edge_router.engines.fleet.endpoints import strong_endpoints

    found: dict[str, tuple[object, str]] = {}
    for each in strong_endpoints(loaded):
        if each.prices is not None and each.prices.source is not None:
            source = each.prices.source
            found[each.setting("price_in")] = (each.prices.price_in, source)
            found[each.setting("price_out")] = (each.prices.price_out, source)
    return found


def about(key: str) -> str:
    """What a key means, in a line."""
    return COMMENTS[key] if key in COMMENTS else NAMED_COMMENTS[key.partition(".")[0]][key.rpartition(".")[2]]


def shown(key: str, value: object) -> object:
    """As JSON, and without what an address may carry beside itself: a user, a password, a key."""
    single = ("strong.base_url", "questions.base_url", "judge.base_url")
    remote = key in single or (key.startswith(f"{ENDPOINTS}.") and key.endswith(".base_url"))
    if remote and isinstance(value, str):
        from edge_router.engines.remote.endpoint import Endpoint

        return Endpoint.parse(value).url
    if key.startswith(f"{CALLERS}.") and key.endswith(".key_hash") and value is not None:
        return HIDDEN
    if key == "weak.base_url" and isinstance(value, str):
        return address(value)
    return plain_value(value)


def _text(value: object) -> str:
    return "-" if value is None else toml(value)
