"""The sections of the settings, `[weak]` to `[sessions]`: what each holds, and its defaults."""

from __future__ import annotations

from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class WeakConfig:
    """The model that answers here: which, where it runs, and how much of the machine it takes."""

    model: str = "SmolLM2-135M-Instruct"  # a model card, a folder or a file
    engine: str = "auto"
    device: str = "auto"
    quantization: str | None = None  # None: the model card's, of ready weights their own
    quantizer: str | None = None  # what makes the format's codes; None: the model card's
    activations: str = "int16"  # what a processor multiplies by weights of four bits; int8: coarser, faster
    kv_cache: str = (
        "auto"  # keys and values: float16, int8 (half of that); auto: as the weights' format has it
    )
    context_window_size: int | None = None  # None: the model card's
    prefill_chunk_size: int | None = None
    sliding_window_size: int | None = None  # of every layer; None: as the model was made
    attention_sink_size: int | None = None  # of it, the tokens at the beginning that always stay
    max_sequences: int | None = None  # answers at the same time; None: up to 4, where memory has room
    speculation: bool = True  # several tokens at once where an answer repeats what was said
    vram_budget: str | None = None  # "12GiB", or "80%" of what is free; None: nearly all that is free
    unload_after_s: float | None = None  # without a question; None: the model stays loaded
    # Of the engine remote: a server on this machine, such as http://127.0.0.1:11434 or unix:/run/llama.sock;
    # None: the first at the usual ports that has the model
    base_url: str | None = None
    trusted_hosts: tuple[str, ...] = ()  # other machines that it may be on; nothing private is sent there
    api_key_env: str | None = None  # the variable that holds its key; None: it wants none
    server_timeout_s: float = 600.0  # for its next token, the model's way into its memory included
    overflow: str = "auto"  # beyond the context: escalate, window, truncate; auto: escalate, else truncate
    min_confidence: float | None = None  # a lower chance of being right: escalate before anything is shown
    tools: str = "auto"  # calls them itself: yes, no; auto: where calibrate --tools has found it good enough
    thinking: bool | None = None  # where a request does not say; None: the model card's
    end_loops: bool = True  # an answer that has come to nothing but the same, over and over
    # What it reads of a prompt's system messages, kept on the disk for the next start: off; marked, where a
    # request says cache = "keep"; cache_control, where one of Anthropic's says that, too; system, always.
    # None: marked, and off where the ledger is
    keep_prefix: str | None = None
    keep_max_size: str = "1GB"  # what was used the longest ago goes first
    threads: int | None = None  # None: the physical cores
    build: bool = True  # fetch and compile what is missing
    retry_load_s: float = 30.0  # a model that could not be loaded is not tried again for so long
    on_defect: str = "error"  # a mistake in the program: error, or escalate to the other model


@dataclass(frozen=True, slots=True)
class MlcConfig:
    """What only the engine mlc knows, under MLC's own names."""

    python: str | None = None  # the Python in which mlc_llm is installed; None: this one
    mode: str | None = None  # local, interactive, server; None: by weak.max_sequences
    gpu_memory_utilization: float | None = None  # of the GPU's memory, whoever uses it; None: MLC's 0.85
    load_timeout_s: float = 300.0  # a library that does not fit hangs it for ever


@dataclass(frozen=True, slots=True)
class StrongConfig:
    """The key itself is never part of the configuration: only the name of the place where it lies."""

    engine: str = "openai"
    base_url: str | None = None  # None with a model set: OpenAI's own
    model: str | None = None  # None: no strong model
    api_key_env: str = "OPENAI_API_KEY"
    keyring_service: str = "edge_router"
    timeout_s: float = 60.0  # without a token; what only keeps the connection is none
    first_token_timeout_s: float | None = None  # thoughts are tokens, too; None: timeout_s
    total_timeout_s: float = 1800.0  # of a whole answer
    connect_timeout_s: float = 5.0
    max_retries: int = 2  # within 12 s, waits included
    price_in: float | None = None  # of a million prompt tokens, in any money
    price_out: float | None = None  # of a million tokens of answers
    monthly_budget: float | None = None  # in the prices' money; raises the threshold to last the month
    hedge: bool = False  # ask a second endpoint where the first is silent for longer than it usually is
    hedge_after_ms: int | None = None  # ... or for so long
    strategy: str = "first"  # which of several endpoints is asked: first, least_busy, weighted, cheapest


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One of several that may be the strong model, `[endpoints.NAME]`. What it does not say, `[strong]` says,
    but for keys and prices, which no two share unasked."""

    name: str
    protocol: str = "openai"
    base_url: str | None = None  # None: OpenAI's own
    models: tuple[str, ...] = ()  # the first is asked where nobody names another
    api_key_env: str | None = None  # None: no key is sent, to OpenAI's own address that of OPENAI_API_KEY
    price_in: float | None = None  # of a million prompt tokens
    price_out: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None  # questions at once
    weight: float = 1.0  # its share, for the strategies weighted and least_busy; 0: only in need
    tags: tuple[str, ...] = ()  # names that several may share, for requests and rules


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """What must not reach the strong model. Each kind: allow, redact (it is hidden there, and put back into
    the answer) or local (the question stays here); None: as the level says."""

    # off; standard: keys, card numbers and IBANs stay here; strict: the others are hidden, too
    level: str = "standard"
    secrets: str | None = None  # keys, tokens, passwords
    cards: str | None = None
    ibans: str | None = None
    emails: str | None = None
    phones: str | None = None
    paths: str | None = None  # the home folder of this machine
    hosts: str | None = None  # the name of this machine


@dataclass(frozen=True, slots=True)
class RulesConfig:
    """Where the user's rules are."""

    file: str | None = None  # None: rules.toml beside the user's own configuration file, where there is one


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the server listens, and to whom."""

    host: str = "127.0.0.1"
    port: int = 6060
    ollama_port: int | None = None  # listened on, too: 11434 is where Ollama's clients look
    api_key_env: str = "EDGE_ROUTER_API_KEY"
    allowed_hosts: tuple[str, ...] = ()  # beside localhost, 127.0.0.1 and [::1]
    # Pages and desktop shells that may call, such as app://obsidian.md or tauri://*; CORS is off without
    allowed_origins: tuple[str, ...] = ()
    resident: bool = False  # edge-router chat of this user, with the same settings, is answered here
    dashboard: bool = True  # `serve` has a page for its owner at /, opened by the link that it prints


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """What is kept of each answer, on this machine alone."""

    enabled: bool = True
    store_prompts: bool = False
    # What the weak model answered only for want of the strong one, where prompts are stored: kept whole, for
    # edge-router upgrade to ask again (ask), or as soon as the strong one answers again (auto); off: not kept
    upgrade: str = "ask"


@dataclass(frozen=True, slots=True)
class ResponseCacheConfig:
    """Answers that are given again to who asks the same."""

    mode: str = "off"  # memory: until the program ends; disk: in a file that only its user may read
    max_age_s: float = 604_800.0  # a week
    max_size: str = "100MB"  # what was asked for the longest ago goes first
    sampled: bool = False  # also answers drawn at random: no temperature, or one above 0
    tools: bool = False  # also answers that may call tools
    similarity: float | None = None  # also to who asks nearly the same; see calibrate --cache


@dataclass(frozen=True, slots=True)
class SessionsConfig:
    """Conversations that stay with their model. Nothing of what they say is kept, only keyed hashes of it."""

    enabled: bool = True  # results of tools go to the model that made the call; see stickiness for the rest
    # How much what a switch has to read again counts against it; 0: not at all, only results of tools bind
    stickiness: float = 1.0
    ttl_s: float = 3600.0  # since its last answer
    max_fingerprints: int = 20_000  # two or more of each answer, some 200 bytes each; the oldest go first
