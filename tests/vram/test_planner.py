"""Plans are monotonic, fit, and can't be bettered by their own measure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.errors import InvalidRequest, UnknownName
from edge_router.vram import BACKENDS, ModelShape, Place, Planner, Settings, WindowRequest, backend
from edge_router.vram.planner import LEAST_CHUNK, LEAST_CONTEXT

MIB, GIB = 1 << 20, 1 << 30


def planner(config, budget, device="cpu", **place):
    return Planner("test", ModelShape.of(config, "test"), Place(backend(device), **place), budget)


@st.composite
def configs(draw):
    heads = draw(st.sampled_from([1, 2, 4, 8, 12]))
    groups = draw(st.sampled_from([n for n in (1, 2, 3, 4) if heads % n == 0]))
    architecture = draw(st.sampled_from(["llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3"]))
    return {
        "model_type": architecture,
        "hidden_size": draw(st.integers(1, 64)) * 32,
        "intermediate_size": draw(st.integers(1, 128)) * 32,
        "num_hidden_layers": draw(st.integers(1, 48)),
        "num_attention_heads": heads,
        "num_key_value_heads": heads // groups,
        "head_dim": draw(st.sampled_from([32, 64, 80, 128, 256])),
        "vocab_size": draw(st.integers(100, 300_000)),
        "max_position_embeddings": 32768,
        "tie_word_embeddings": draw(st.booleans()),
        "sliding_window": draw(st.sampled_from([None, 512, 4096])),
    }


FORMS = st.lists(st.sampled_from(sorted(QUANTIZATIONS)), min_size=1, max_size=3, unique=True).map(tuple)


def wishes(quantizations=FORMS):
    return st.builds(
        WindowRequest,
        context_window_size=st.integers(1, 32768),
        prefill_chunk_size=st.integers(1, 4096),
        max_sequences=st.integers(1, 6),
        quantizations=quantizations,
    ).map(
        lambda wish: replace(wish, prefill_chunk_size=min(wish.prefill_chunk_size, wish.context_window_size))
    )


GEMMA2 = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 256000,
    "sliding_window": 4096,
}
devices = st.sampled_from(sorted(BACKENDS))
budgets = st.integers(1, 40 * GIB)
shares = st.floats(0.2, 1.2)  # of what the wish would need


def sized(config, wish, device, share):
    """A planner whose budget is a share of what `wish` would take."""
    return planner(config, int(planner(config, 1, device).asked(wish).total * share), device)


@given(configs(), wishes(), devices, budgets, budgets)
def test_more_budget_never_gives_less_context(config, wish, device, one, other):
    less = planner(config, min(one, other), device).best(wish)
    more = planner(config, max(one, other), device).best(wish)
    if less is not None:
        assert more is not None
        assert more.settings.context_window_size >= less.settings.context_window_size


@given(configs(), wishes(), devices, st.integers(1, 4096), st.sampled_from(sorted(QUANTIZATIONS)))
def test_a_larger_knob_never_needs_less_memory(config, wish, device, more, form):
    there = planner(config, GIB, device, threads=2)
    base = Settings(form, wish.context_window_size, wish.prefill_chunk_size, wish.max_sequences)
    for knob in ("context_window_size", "prefill_chunk_size", "max_sequences"):
        larger = replace(base, **{knob: getattr(base, knob) + more})
        assert there.at(larger).total >= there.at(base).total


@given(configs(), wishes(), devices, shares)
def test_what_is_planned_fits_and_is_not_more_than_was_asked(config, wish, device, share):
    plan = sized(config, wish, device, share).best(wish)
    if plan is None:
        return
    assert plan.fits and plan.total <= plan.budget and plan.lacking == 0
    assert plan.settings.context_window_size <= wish.context_window_size
    assert plan.settings.prefill_chunk_size <= min(wish.prefill_chunk_size, plan.settings.context_window_size)
    assert plan.settings.quantization in wish.quantizations
    assert plan.settings.max_sequences == wish.max_sequences
    assert sum(plan.bytes(part) for part in plan.to_dict()["bytes"] if part != "total") == plan.total


@given(configs(), wishes(), devices, shares)
def test_no_page_more_would_have_fitted(config, wish, device, share):
    there = sized(config, wish, device, share)
    plan = there.best(wish)
    context = plan.settings.context_window_size + 16 if plan else 0
    if not 0 < context <= wish.context_window_size:
        return
    chunk = min(LEAST_CHUNK, wish.prefill_chunk_size)
    for form in wish.quantizations:
        assert not there.at(Settings(form, context, chunk, wish.max_sequences)).fits


@given(configs(), wishes(st.just(("q4f16_1",))), devices, shares)
def test_a_budget_that_gives_nothing_is_too_small_for_the_least(config, wish, device, share):
    there = sized(config, wish, device, share)
    if there.best(wish) is not None:
        return
    least = min(LEAST_CONTEXT, wish.context_window_size)
    settings = Settings(
        "q4f16_1", least, min(LEAST_CHUNK, wish.prefill_chunk_size, least), wish.max_sequences
    )
    assert not there.at(settings).fits


@given(configs(), wishes(), devices)
def test_the_smallest_budget_for_a_context_is_exact(config, wish, device):
    needed = planner(config, 1, device).smallest_budget(wish)
    enough = planner(config, needed, device).best(wish)
    assert enough is not None and enough.settings.context_window_size == wish.context_window_size
    less = planner(config, needed - 1, device)
    assert all(
        not less.at(
            Settings(
                form, wish.context_window_size, min(LEAST_CHUNK, wish.prefill_chunk_size), wish.max_sequences
            )
        ).fits
        for form in wish.quantizations
    )


@given(configs(), budgets)
def test_the_largest_context_is_the_one_that_is_planned_for_it(config, budget):
    there = planner(config, budget)
    wish = WindowRequest(1024, 64)
    longest = there.largest_context(wish)
    if longest:
        plan = there.best(replace(wish, context_window_size=longest))
        assert plan is not None and plan.settings.context_window_size == longest
    else:
        assert there.best(replace(wish, context_window_size=LEAST_CONTEXT)) is None


@given(configs(), wishes(), devices, shares)
def test_remedies_say_what_they_free(config, wish, device, share):
    there = sized(config, wish, device, share)
    asked = there.asked(wish)
    remedies = there.remedies(replace(wish, kv_caches=("auto", "int8")), ("q3f16_1",))
    assert bool(remedies) <= (not asked.fits)
    names = (
        "kv_cache",
        "context_window_size",
        "prefill_chunk_size",
        "max_sequences",
        "quantization",
        "sliding_window_size",
    )
    for remedy in remedies:
        assert remedy.knob in names and remedy.frees > 0
        changed = {remedy.knob: remedy.value}
        if remedy.knob == "context_window_size":
            changed["prefill_chunk_size"] = min(remedy.value, asked.settings.prefill_chunk_size)
        plan = there.at(replace(asked.settings, **changed))
        assert remedy.frees == asked.total - plan.total
        assert remedy.enough == plan.fits
    assert [r.enough for r in remedies] == sorted((r.enough for r in remedies), reverse=True)


def test_context_comes_before_chunk_and_chunk_before_quantization(llama_8b):
    wish = WindowRequest(8192, 2048, quantizations=("q4f16_1", "q3f16_1"))
    roomy = planner(llama_8b, 12 * GIB, "cuda").best(wish)
    assert roomy is not None
    assert (roomy.settings.context_window_size, roomy.settings.prefill_chunk_size) == (8192, 2048)
    assert roomy.settings.quantization == "q4f16_1"
    # 6310 MiB hold 8192 tokens of q4 with a small chunk only, and of q3 with the whole one
    tight = planner(llama_8b, 6310 * MIB, "cuda").best(wish)
    assert tight is not None
    assert (tight.settings.context_window_size, tight.settings.prefill_chunk_size) == (8192, 2048)
    assert tight.settings.quantization == "q3f16_1"
    alone = planner(llama_8b, 6310 * MIB, "cuda").best(replace(wish, quantizations=("q4f16_1",)))
    assert alone is not None
    assert (alone.settings.context_window_size, alone.settings.prefill_chunk_size) == (8192, 256)


def test_keys_and_values_of_eight_bits_come_before_a_shorter_context(llama_8b):
    wish = WindowRequest(8192, 512, kv_caches=("auto", "int8"))
    auto, eight = (planner(llama_8b, 1).asked(replace(wish, kv_caches=(kept,))) for kept in wish.kv_caches)
    # a byte for each channel and two for the scale of each head
    assert eight.bytes("kv_cache") * 2 * 128 == auto.bytes("kv_cache") * (128 + 2)
    roomy = planner(llama_8b, auto.total)
    best = roomy.best(wish)
    assert best is not None and best.settings.kv_cache == "auto"
    assert 8192 <= roomy.largest_context(wish) < 2 * 8192
    for budget in (auto.total - 300 * MIB, eight.total):
        tight = planner(llama_8b, budget)
        best = tight.best(wish)
        assert best is not None and best.settings.kv_cache == "int8"
        assert best.settings.context_window_size == 8192
        only = tight.best(replace(wish, kv_caches=("auto",)))
        assert only is not None and only.settings.context_window_size < 8192
        offered = tight.remedies(wish)[0]
        assert (offered.knob, offered.value, offered.enough) == ("kv_cache", "int8", True)
        assert offered.frees == auto.total - eight.total
    least = planner(llama_8b, eight.total - 300 * MIB).best(wish)
    assert least is not None and 4096 < least.settings.context_window_size < 8192
    assert least.settings.kv_cache == "int8" and tight.smallest_budget(wish) < eight.total


def test_the_first_of_equally_good_quantizations_is_taken(smol):
    there = planner(smol, 4 * GIB)
    for order in (("q4f16_1", "q0f16"), ("q0f16", "q4f16_1")):
        plan = there.best(WindowRequest(2048, 512, quantizations=order))
        assert plan is not None and plan.settings.quantization == order[0]


def test_a_sliding_window_is_taken_where_it_reaches_further(mistral):
    wish = WindowRequest(32768, 512)
    there = planner(mistral, 6 * GIB, "mlc")
    plan = there.best(wish)
    assert plan is not None
    assert (plan.settings.context_window_size, plan.settings.sliding_window_size) == (32768, 4096)
    remedy = next(item for item in there.remedies(wish) if item.knob == "sliding_window_size")
    assert (remedy.value, remedy.enough) == (4096, True)
    full = planner(mistral, 24 * GIB, "mlc").best(wish)
    assert full is not None and full.settings.sliding_window_size == -1


def test_what_is_compiled_already_can_not_begin_to_slide(mistral):
    plan = planner(mistral, 6 * GIB, "mlc").best(WindowRequest(32768, 512, may_slide=False))
    assert plan is not None and plan.settings.sliding_window_size == -1
    assert plan.settings.context_window_size < 32768


@pytest.mark.parametrize("device", ["cpu", "vulkan"])
def test_a_window_is_offered_where_full_attention_does_not_fit(llama_8b, device):
    there, wish = planner(llama_8b, 6 * GIB, device), WindowRequest(32768, 512)
    offered = next(item for item in there.remedies(wish) if item.knob == "sliding_window_size")
    assert offered.enough and offered.value == 8192, "the widest that fits"
    plan = there.at(Settings("q4f16_1", 32768, 512, sliding_window_size=8192))
    assert plan.fits and plan.to_dict()["sliding_window_size"] == 8192
    assert not there.at(Settings("q4f16_1", 32768, 512, sliding_window_size=16384)).fits
    knobs = {item.knob for item in planner(llama_8b, 6 * GIB, "cuda").remedies(wish)}
    assert knobs and "sliding_window_size" not in knobs, "that runtime forgets nothing"


@pytest.mark.parametrize("device", sorted(BACKENDS))
def test_where_some_layers_see_everything_everything_is_kept(device):
    """The others' windows are a mask."""
    there, wish = planner(GEMMA2, 2 * GIB, device), WindowRequest(8192, 512)
    plain = planner({**GEMMA2, "model_type": "llama"}, 2 * GIB, device)
    full = there.asked(wish)
    assert full.settings.sliding_window_size == -1
    assert full.bytes("kv_cache") == plain.asked(wish).bytes("kv_cache")
    assert "sliding_window_size" not in {item.knob for item in there.remedies(wish)}


@given(configs(), wishes(), devices, st.integers(16, 8192), st.integers(0, 4096))
def test_a_wider_window_never_takes_less_and_never_more_than_none(config, wish, device, window, more):
    there = planner({**config, "sliding_window": None}, GIB, device)
    base = Settings("q4f16_1", 32768, wish.prefill_chunk_size, wish.max_sequences)
    narrow, wide = (there.at(replace(base, sliding_window_size=size)) for size in (window, window + more))
    assert narrow.bytes("kv_cache") <= wide.bytes("kv_cache")
    if window + more + wish.prefill_chunk_size + 48 <= 32768:
        assert wide.bytes("kv_cache") <= there.at(base).bytes("kv_cache")


def test_on_a_processor_what_lies_before_the_window_is_always_forgotten(mistral):
    there = planner(mistral, 24 * GIB, "cpu")
    for context, window in ((4096, -1), (4097, 4096), (32768, 4096)):
        plan = there.best(WindowRequest(context, 512))
        assert plan is not None and plan.settings.sliding_window_size == window
    cache = [there.asked(WindowRequest(context, 512)).bytes("kv_cache") for context in (8192, 32768)]
    assert cache[0] == cache[1]


def test_a_budget_below_the_parameters(gorilla):
    there = planner(gorilla, 2 * GIB, "cuda")
    wish = WindowRequest(4096, 512)
    assert there.best(wish) is None and there.largest_context(wish) == 0
    asked = there.asked(wish)
    assert not asked.fits and asked.lacking == asked.total - 2 * GIB
    assert asked.bytes("parameters") > 2 * GIB
    assert not any(remedy.enough for remedy in there.remedies(wish, ("q3f16_1",)))


def test_gorilla_on_a_twelve_gigabyte_card_beside_a_desktop(gorilla):
    """q4f32_1 with MLC's windows did not fit; its plan names the settings with which it does."""
    there = planner(gorilla, 11 * GIB, "mlc")
    wish = WindowRequest(4096, 2048, 4, ("q4f32_1",))
    assert not there.asked(wish).fits
    enough = {remedy.knob: remedy.value for remedy in there.remedies(wish, ("q4f16_1",)) if remedy.enough}
    assert enough == {"context_window_size": 1024, "max_sequences": 1}
    assert planner(gorilla, 11 * GIB, "mlc").asked(WindowRequest(4096, 2048, 1, ("q4f16_1",))).fits


def test_the_wish_is_put_right_and_it_is_said(smol):
    shape = ModelShape.of(smol, "test")
    wish, notes = WindowRequest(16384, 32768).checked(shape)
    assert (wish.context_window_size, wish.prefill_chunk_size) == (16384, 16384)
    assert len(notes) == 2 and "8192" in notes[0] and "cut" in notes[1]
    assert WindowRequest(2048, 512).checked(shape) == (WindowRequest(2048, 512), ())


@pytest.mark.parametrize(
    "wish",
    [WindowRequest(0), WindowRequest(1024, 0), WindowRequest(1024, 64, 0), WindowRequest(1024, 64, 1, ())],
)
def test_nothing_can_not_be_planned(smol, wish):
    with pytest.raises(InvalidRequest):
        wish.checked(ModelShape.of(smol, "test"))


def test_unknown_names_are_told(smol):
    with pytest.raises(UnknownName, match="q4f16_1"):
        planner(smol, GIB).asked(WindowRequest(1024, 64, quantizations=("q4f16",)))
    with pytest.raises(UnknownName, match="cuda"):
        backend("cudaa")


def test_a_plan_says_whose_memory_it_takes(smol):
    plans = {device: planner(smol, GIB, device).asked(WindowRequest(1024, 64)) for device in BACKENDS}
    assert {device for device, plan in plans.items() if not plan.on_gpu} == {"cpu"}


def test_a_plan_as_json(smol):
    plan = planner(smol, GIB).asked(WindowRequest(2048, 512))
    data = plan.to_dict()
    assert list(data) == [
        "model",
        "budget_bytes",
        "fits",
        "context_window_size",
        "prefill_chunk_size",
        "sliding_window_size",
        "quantization",
        "kv_cache",
        "bytes",
    ]
    assert list(data["bytes"]) == [
        "parameters",
        "kv_cache",
        "workspace",
        "router",
        "runtime",
        "margin",
        "total",
    ]


@given(configs(), wishes(), devices, st.floats(1.0, 8.0), st.integers(1, 8))
def test_more_conversations_cost_neither_windows_nor_what_others_may_want(config, wish, device, share, most):
    there = sized(config, wish, device, share)
    wish = replace(wish, most_sequences=most)
    asked = there.asked(wish)
    plan = there.batched(asked, wish)
    assert replace(plan.settings, max_sequences=wish.max_sequences) == asked.settings
    if plan.settings.max_sequences == asked.settings.max_sequences:
        return
    assert asked.settings.max_sequences < plan.settings.max_sequences <= most
    assert plan.total - asked.total <= (asked.budget - asked.total) / 2
    one_more = there.at(replace(plan.settings, max_sequences=plan.settings.max_sequences + 1))
    if plan.settings.max_sequences < most:
        assert one_more.total - asked.total > (asked.budget - asked.total) // 2


@pytest.mark.parametrize(("given", "least", "most"), [(None, 1, 4), (1, 1, 1), (3, 3, 3), (9, 9, 9)])
def test_how_many_conversations_the_configuration_asks_for(given, least, most):
    wish = WindowRequest(2048).together(given)
    assert (wish.max_sequences, wish.most_sequences) == (least, most)
