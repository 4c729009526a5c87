"""What an engine is told to allocate when memory is plenty, when it is short, and when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_router.catalog import find_model
from edge_router.config.settings import Config
from edge_router.device import Gpu, host
from edge_router.errors import OutOfMemory
from edge_router.vram import WindowRequest, fitting
from edge_router.vram import budget as memory_budget
from edge_router.vram.budget import memory_budget_for
from edge_router.vram.fitting import check_possible, fit

pytestmark = pytest.mark.integration

MIB, GIB = 1 << 20, 1 << 30
HELD = 60 * MIB


@pytest.fixture
def fitted(smol, paths, monkeypatch):
    """fitted(free=..., budget="..."): the demo model with 8192 tokens, in a process that holds 60 MiB."""

    def call(
        free=8 * GIB, budget=None, context=8192, router_loaded=True, device="auto", sequences=1, coming=0
    ):
        here = replace(host(), memory_free=free)
        monkeypatch.setattr(memory_budget, "host", lambda memory: here)
        given = {"weak.vram_budget": budget, "weak.device": device, "router.name": "mf"}
        config = Config.load(overrides=given, environ={})
        room = memory_budget_for(config, paths)
        wish = WindowRequest(context, 512).together(sequences)
        return fit("smol", smol, wish, room, held=HELD, router_loaded=router_loaded, coming=coming)

    return call


def test_what_is_asked_is_taken_where_it_fits(fitted):
    found = fitted()
    assert found.note is None
    assert (found.plan.settings.context_window_size, found.plan.settings.prefill_chunk_size) == (8192, 512)
    assert found.plan.budget == int(8 * GIB * 0.9) + HELD
    assert next(item.bytes for item in found.plan.products if item.name == "this process") == HELD


def test_the_router_counts_until_it_is_loaded(fitted):
    assert fitted(router_loaded=True).plan.bytes("router") == 0
    assert fitted(router_loaded=False).plan.bytes("router") > 0


def test_what_the_process_takes_soon_counts_and_is_not_there_yet(fitted):
    plan, more = fitted().plan, fitted(coming=30 * MIB).plan
    assert more.budget == plan.budget and 30 * MIB <= more.total - plan.total < 31 * MIB


def test_a_shorter_context_is_taken_and_it_is_said(fitted):
    whole = fitted().plan.total
    found = fitted(free=(whole - HELD - 40 * MIB) * 10 // 9)
    assert found.plan.fits and 1024 <= found.plan.settings.context_window_size < 8192
    assert f"context_window_size 8192 became {found.plan.settings.context_window_size}" in (found.note or "")


def test_what_eight_bits_would_give_is_told_with_it(fitted):
    whole = fitted().plan.total
    note = fitted(free=(whole - HELD - 40 * MIB) * 10 // 9).note or ""
    assert note.endswith("; weak.kv_cache=int8 would leave room for 8192"), note
    assert "kv_cache" not in (fitted(free=8 * GIB).note or "")


def test_nobody_says_how_many_at_once_so_memory_does(fitted):
    one = fitted().plan
    assert fitted(sequences=None).plan.settings.max_sequences == 4
    amounts = {fitted(sequences=n).plan.total - one.total for n in (2, 3, 4)}
    for spare in (0, MIB, *amounts, *(2 * amount for amount in amounts), GIB):
        found = fitted(sequences=None, free=(one.total - HELD + spare) * 10 // 9 + MIB)
        taken = found.plan.total - one.total
        assert found.note is None and found.plan.settings.context_window_size == 8192
        assert taken <= spare / 2 + MIB
    short = fitted(sequences=None, free=(one.total - HELD - 40 * MIB) * 10 // 9).plan.settings
    assert short.max_sequences == 1 and short.context_window_size < 8192


def test_less_than_a_short_context_is_out_of_memory(fitted):
    with pytest.raises(OutOfMemory) as caught:
        fitted(free=100 * MIB)
    error = caught.value
    assert error.needed is not None and error.free is not None
    assert error.needed > error.free == 90 * MIB and error.budget is None
    assert "1024 tokens" in str(error)
    # what it names is enough
    assert fitted(free=error.needed * 10 // 9 + MIB).plan.settings.context_window_size >= 1024


def test_a_model_asked_for_a_very_short_context_may_start_with_it(fitted):
    whole = fitted(context=512).plan.total
    assert fitted(context=512, free=(whole - HELD) * 10 // 9 + MIB).plan.settings.context_window_size == 512
    with pytest.raises(OutOfMemory, match="512 tokens"):
        fitted(context=512, free=100 * MIB)


def test_an_amount_counts_the_whole_process_and_never_more_than_is_free(fitted):
    assert fitted(budget="1GiB").plan.budget == GIB
    assert fitted(budget="16GiB", free=2 * GIB).plan.budget == 2 * GIB + HELD
    with pytest.raises(OutOfMemory) as caught:
        fitted(budget="100MiB")
    assert caught.value.budget == 100 * MIB  # no other program is at fault


def test_a_gpu_is_planned_without_the_process(fitted, monkeypatch):
    monkeypatch.setattr(memory_budget, "gpus", lambda: (Gpu("A", "nvidia", 12 * GIB, 4 * GIB),))
    found = fitted(device="cuda")
    assert found.plan.budget == int(4 * GIB * 0.9)
    assert {item.name for item in found.plan.products if item.part == "runtime"} == {
        "driver and kernels",
        "allocations rounded up",
    }
    assert fitted(device="cuda", budget="12GiB").plan.budget == 4 * GIB
    monkeypatch.setattr(memory_budget, "gpus", lambda: (Gpu("A", "nvidia", 12 * GIB, 256 * MIB),))
    with pytest.raises(OutOfMemory) as caught:
        fitted(device="cuda")
    assert caught.value.free == int(256 * MIB * 0.9) and (caught.value.needed or 0) > 512 * MIB
    monkeypatch.setattr(memory_budget, "gpus", tuple)
    assert fitted(device="cuda", budget="12GiB").plan.budget == 12 * GIB


def test_the_least_context_is_what_the_message_says():
    assert fitting.LEAST == 1024


def test_what_the_device_can_never_hold_is_refused_before_it_is_built(paths, monkeypatch):
    """By all that it has, or by the budget that was set; not by what other programs hold just now."""
    model = find_model("Qwen3-8B")
    for whole, free, budget, possible in (
        (8, 1, None, True),
        (4, 4, None, False),
        (8, 8, "6GiB", True),
        (8, 8, "3GiB", False),
        (4, 4, "12GiB", False),
    ):
        here = replace(host(), memory_free=free * GIB, memory_total=whole * GIB)
        monkeypatch.setattr(memory_budget, "host", lambda memory, here=here: here)
        config = Config().replace(**{"weak.device": "cpu", "weak.vram_budget": budget})
        try:
            check_possible(config, model, paths)
        except OutOfMemory as error:
            assert not possible and error.needed and error.free, (whole, free, budget)
            assert "does not fit on cpu with a context of 1024 tokens" in error.reason
        else:
            assert possible, (whole, free, budget)
