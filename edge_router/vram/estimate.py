"""How much memory a model takes with given windows, product by product."""

from __future__ import annotations

from collections.abc import Iterator

from edge_router.architectures.key_values import PageForm, stored_type
from edge_router.architectures.mixers import STATE_BYTES, state_slots
from edge_router.architectures.quantization import WORD_BYTES, Quantization
from edge_router.records import dataclass
from edge_router.vram.backends import PAGE, Backend
from edge_router.vram.products import Product, product, rounded, total
from edge_router.vram.programs import program_products
from edge_router.vram.shapes import ModelShape, TensorShape
from edge_router.webgpu_program import Windows

NO_WINDOW = -1  # MLC's way to say that there is no sliding window
SINK = 4  # tokens at the start that a sliding window never forgets
SHARD = 32 << 20  # bytes of weights that are read at once, unless one tensor alone is larger

_INTEGER = 4
_FLOAT = 4
_LANES = 16  # of the widest vectors that the CPU kernels use
_GROUP = 32  # numbers that share a scale
_INTEGER_GROUP = 32 * 2 + 8  # bytes of a group of sixteen-bit integers, with its scale and its sum
_GUESSED = 7  # tokens that are checked beside the next one: edge_router/engines/tvm/engine.py
_SAMPLED = 28  # bytes for each token of the vocabulary while one is chosen (copies, weights, order)
_TREE = 256  # tokens of a speculative tree, for which TVM's KV cache reserves room
_DEPTHS = 2  # of shared prefixes, in TVM's KV cache
_KERNELS = 4 << 20  # of a compiled library, measured
_PER_TOKEN_TEXT = 280  # bytes that the tokenizer takes for each token


@dataclass(frozen=True, slots=True)
class Settings:
    """The knobs. Tokens; -1 where there is no sliding window, as MLC writes it."""

    quantization: str
    context_window_size: int
    prefill_chunk_size: int
    max_sequences: int = 1
    sliding_window_size: int = NO_WINDOW
    kv_cache: str = "auto"  # in what keys and values are kept, see `architectures.key_values`

    @property
    def attention_sink_size(self) -> int:
        return SINK if self.sliding_window_size != NO_WINDOW else NO_WINDOW

    @property
    def pages(self) -> int:
        """Of the whole KV cache: TVM adds one, and two for each sequence that slides.

        A chunk is written before what only its first tokens look back at is forgotten.
        """
        if self.sliding_window_size == NO_WINDOW:
            return self.max_sequences * -(-self.context_window_size // PAGE) + 1
        kept = min(self.sliding_window_size + self.prefill_chunk_size, self.context_window_size)
        return self.max_sequences * (-(-kept // PAGE) + 2) + 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is to run: the runtime, its threads, and what else counts there, in bytes.

    `integers`: the processor multiplies sixteen-bit integers by those of four, as every x86 does, which are
    packed closer.
    `process`: what this process holds already, where that is known, its tokenizer among it; `router`: of the
    router's session; `library`: what the compiled library says of its own buffers, where there is one.
    """

    backend: Backend
    threads: int = 1
    integers: bool = False
    router: int = 0
    process: int | None = None
    library: int | None = None


def estimate(shape: ModelShape, form: Quantization, settings: Settings, place: Place) -> tuple[Product, ...]:
    """Everything that is held at the moment when most is held."""
    if place.backend.program:
        numbers = settings.context_window_size, settings.prefill_chunk_size, settings.max_sequences
        own = tuple(program_products(shape, form, Windows(*numbers), settings.kv_cache))
        counted = (*own, *_surroundings(shape, form, place))
    else:
        weights = tuple(_parameters(shape, form))
        cache = _kv_cache(shape, form, settings, place)
        states = tuple(_states(shape, settings))
        work = tuple(_workspace(shape, form, settings, place))
        counted = (*weights, cache, *states, *work, *_surroundings(shape, form, place))
        if not place.backend.own_memory:
            counted = (*counted, *_loading(shape, form, total((cache, *states, *work))))
    share, thousandth = place.backend.margin, -(-total(counted) // 1000)
    return *counted, product("margin", "for what is not counted", thousandths=share, bytes=thousandth)


def weight_bytes(shape: ModelShape, form: Quantization) -> int:
    """Of all weights, as they lie on the disk and in memory."""
    return total(tuple(_parameters(shape, form)))


def tensor_bytes(tensor: TensorShape, form: Quantization) -> tuple[int, ...]:
    """Of each array that stores one of these tensors: packed weights and scales, or the plain one."""
    return tuple(item.bytes // tensor.count for item in _stored(tensor, form))


def _parameters(shape: ModelShape, form: Quantization) -> Iterator[Product]:
    for tensor in shape.tensors():
        yield from _stored(tensor, form)


def _stored(tensor: TensorShape, form: Quantization) -> Iterator[Product]:
    if not form.quantizes(tensor.kind):
        yield product(
            "parameters",
            tensor.name,
            tensors=tensor.count,
            rows=tensor.rows,
            columns=tensor.columns,
            bytes=form.dtype_bytes,
        )
        return
    groups = form.groups(tensor.columns)
    yield product(
        "parameters",
        tensor.name,
        tensors=tensor.count,
        rows=tensor.rows,
        words=groups * form.words_per_group,
        bytes=WORD_BYTES,
    )
    yield product(
        "parameters",
        f"{tensor.name}, scales",
        tensors=tensor.count,
        rows=tensor.rows,
        groups=groups,
        bytes=form.dtype_bytes,
    )


def _kv_cache(shape: ModelShape, form: Quantization, settings: Settings, place: Place) -> Product:
    """TVM keeps whole contexts for layers with a sliding window, too, when other layers have none.

    MLC's engine goes on only while each sequence has a free page; one that slides has them anyway.
    """
    whole = settings.sliding_window_size == NO_WINDOW
    free = settings.max_sequences if place.backend.mlc and whole else 0
    kept = page_form(shape, form, settings)
    if kept.rounded:
        each = {"bytes_with_their_scale": kept.token_bytes}
    else:
        each = {"channels": shape.head_dim, "bytes": kept.token_bytes // shape.head_dim}
    return product(
        "kv_cache",
        "keys and values",
        pages=settings.pages + free,
        tokens_each=PAGE,
        keys_and_values=2,
        layers=shape.attention_layers,
        heads=shape.kv_heads,
        **each,
    )


def page_form(shape: ModelShape, form: Quantization, settings: Settings) -> PageForm:
    return PageForm(stored_type(settings.kv_cache, form.dtype), shape.kv_heads, shape.head_dim)


def _states(shape: ModelShape, settings: Settings) -> Iterator[Product]:
    """What layers without keys and values keep: of each text, for guesses, and to come back to."""
    keys = 2 * settings.context_window_size * shape.attention_layers * shape.key_width
    slots = state_slots(settings.max_sequences, shape.state_numbers, keys)
    for state, layers in shape.states:
        sizes = {"texts": slots, "layers": layers, "numbers": state.numbers, "bytes": STATE_BYTES}
        yield product("kv_cache", f"states, {state.name}", **sizes)


def _workspace(shape: ModelShape, form: Quantization, settings: Settings, place: Place) -> Iterator[Product]:
    chunk, sequences, size = settings.prefill_chunk_size, settings.max_sequences, form.dtype_bytes
    yield product(
        "workspace",
        "attention: queries and results",
        arrays=2,
        tokens=chunk,
        heads=shape.heads,
        channels=shape.head_dim,
        bytes=size,
    )
    yield product(
        "workspace",
        "attention: new keys and values",
        arrays=2,
        tokens=chunk,
        heads=shape.kv_heads,
        channels=shape.head_dim,
        bytes=size,
    )
    yield product(
        "workspace", "attention: softmax sums", arrays=2, tokens=chunk, heads=shape.heads, bytes=_FLOAT
    )
    yield product(
        "workspace",
        "attention: where pages are",
        integers=place.backend.index_integers or _index_integers(settings),
        bytes=_INTEGER,
    )
    yield from _buffers(shape, form, settings, place)
    if place.backend.mlc:
        yield product("workspace", "MLC's copies of embeddings and states", tokens=2 * chunk + sequences,
                      numbers=shape.query_width, bytes=2)  # fmt: skip
        yield product(
            "workspace", "MLC's sampler", sequences=sequences, vocabulary=shape.vocabulary, bytes=17
        )
    if not place.backend.own_memory:
        yield from _host_work(shape, form, chunk, place)


def _buffers(shape: ModelShape, form: Quantization, settings: Settings, place: Place) -> Iterator[Product]:
    """What a library computes in: as it says itself, for the windows that it was compiled for.

    With smaller ones a processor touches less of it, and untouched memory takes none.
    """
    # One token more for `decode`, and a batch for the others; logits of each sequence's last token as well
    # where several are read at once. Guesses come in a batch, too.
    batch = settings.max_sequences + (_GUESSED if place.backend.guesses else 0)
    tokens, width = settings.prefill_chunk_size + 1 + batch, activation_width(shape)
    rows = 1 + settings.max_sequences + batch
    bound = (
        product("workspace", "activations", tokens=tokens, numbers=width, bytes=form.dtype_bytes),
        product("workspace", "logits", rows=rows, vocabulary=shape.vocabulary, bytes=_FLOAT),
    )
    if place.library is None or (not place.backend.own_memory and total(bound) < place.library):
        yield from bound
    else:
        yield product("workspace", "the compiled library's buffers", bytes=place.library)


def activation_width(shape: ModelShape) -> int:
    """Numbers of two bytes that are kept for each token of a call, at most.

    Ours keep the embedding, the stream twice in float32, q, k and v with attention's result, and the MLP's
    product in float32. Where heads are normalised, q, k and v are there in float32 once more, and the MLP
    takes their place; where they come from three matrices, each of four steps has its own, and where all of
    a token's are normalised as one, each of three. Layers that turn on their own turn a copy, and those that
    normalise what comes out keep that beside the stream.
    MLC's keep what lives at once in a layer: stream and norm beside either q, k, v and attention's result,
    or gate, up and their product.
    """
    qkv = shape.query_width + 2 * shape.key_width
    product = 2 * shape.intermediate
    described = shape.architecture
    if described.head_norms == "all":
        product = 6 * qkv + product
    elif described.head_norms == "each":
        product = 5 * qkv + product if described.split else max(2 * qkv, product)
    if described.gated:  # queries with their gates are kept until attention's result has met these
        product = 2 * (qkv + shape.query_width) + max(2 * shape.query_width, product)
    if described.turns != "alike" and not described.split:
        product += qkv
    if described.norms == "after":
        product += 2 * shape.hidden
    for _, sizes, _ in shape.mixed:  # what goes in and what comes out, in float32
        product = max(product, 2 * sum(sizes.inputs.values()) + 2 * sizes.width)
    if shape.experts is not None:  # ratings in float32, and which experts are taken
        product += 2 * shape.experts.count + 4 * shape.experts.chosen
    ours = 5 * shape.hidden + qkv + shape.query_width + product
    theirs = 2 * shape.hidden + max(qkv + shape.query_width, 3 * shape.intermediate)
    return max(theirs, ours)


def _host_work(shape: ModelShape, form: Quantization, chunk: int, place: Place) -> Iterator[Product]:
    """On a processor: the rows of a product repacked, weights unpacked strip by strip, and the sampler."""
    inputs = max(shape.hidden, shape.query_width, shape.intermediate)
    packed = _INTEGER_GROUP if place.integers and form.bits == 4 else _GROUP * _FLOAT
    groups = -(-inputs // _GROUP)
    yield product("workspace", "activations, repacked", tokens=chunk, groups=groups, bytes=packed)
    yield product(
        "workspace",
        "weights, unpacked",
        threads=place.threads,
        vectors=2,
        numbers=inputs,
        lanes=_LANES,
        bytes=_FLOAT,
    )
    yield product("workspace", "sampling", vocabulary=shape.vocabulary, bytes=_SAMPLED)


def _index_integers(settings: Settings) -> int:
    """TVM 0.27, paged_kv_cache.cc: arrays on the host, and what of them is copied for the kernels, twice."""
    chunk, sequences, pages = settings.prefill_chunk_size, settings.max_sequences, settings.pages
    on_depths = 4 * (sequences + 1) + 2 * pages + 5 * sequences + 2 * _TREE * sequences
    single = 2 * sequences + 7 * chunk + 2 * (sequences + 1) + 2 * min(_TREE * sequences, chunk)
    copied = _DEPTHS * (pages + 6 * (sequences + 1)) + 3 * chunk
    return _DEPTHS * on_depths + single + 2 * copied


def _surroundings(shape: ModelShape, form: Quantization, place: Place) -> Iterator[Product]:
    backend = place.backend
    if backend.own_memory:
        yield product("runtime", "driver and kernels", bytes=backend.context)
    else:
        if place.process is not None:
            yield product("runtime", "this process", bytes=place.process)
        else:
            yield product("runtime", "Python, numpy and the runtime", bytes=backend.context)
            yield product("runtime", "tokenizer", tokens=shape.vocabulary, bytes=_PER_TOKEN_TEXT)
        yield product("runtime", "compiled kernels", bytes=_KERNELS)
    if place.router:
        yield product("router", "its graph and session", bytes=place.router)
    wasted = sum(
        (rounded(size, backend.granularity) - size) * tensor.count
        for tensor in shape.tensors()
        for size in tensor_bytes(tensor, form)
        if size >= backend.granularity // 2
    )
    yield product("runtime", "allocations rounded up", bytes=wasted)


def _loading(shape: ModelShape, form: Quantization, later: int) -> Iterator[Product]:
    """The file buffer while weights are read, as far as it exceeds what is allocated `later` anyway."""
    largest = max(size for tensor in shape.tensors() for size in tensor_bytes(tensor, form))
    if max(SHARD, largest) > later:
        yield product("runtime", "buffer while weights are read", bytes=max(SHARD, largest) - later)
