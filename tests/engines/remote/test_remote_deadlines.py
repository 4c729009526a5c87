"""Deadlines by a clock of their own, and the watchdog that holds to them."""

import asyncio

import pytest

from edge_router.config.sections import StrongConfig
from edge_router.engines.remote.deadlines import RETRIES_S, Deadlines, Watchdog


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def facts(overdue):
    return overdue.seconds, overdue.setting, overdue.whole


def test_each_try_has_the_usual_time_for_its_first_token(clock):
    deadlines = Deadlines(StrongConfig(timeout_s=60), clock)
    assert deadlines.when == 1060
    assert facts(deadlines.overdue()) == (60, "strong.timeout_s", False)
    clock.now += 5
    deadlines.again()
    assert deadlines.when == 1065


def test_a_deadline_for_the_first_token_is_for_all_tries(clock):
    deadlines = Deadlines(StrongConfig(timeout_s=60, first_token_timeout_s=20), clock)
    clock.now += 5
    deadlines.again()
    assert deadlines.when == 1020
    assert facts(deadlines.overdue()) == (20, "strong.first_token_timeout_s", False)
    deadlines.took(1005)
    assert deadlines.when == 1065
    assert facts(deadlines.overdue()) == (60, "strong.timeout_s", False)


def test_what_is_no_token_moves_nothing_but_the_readers_own_time(clock):
    deadlines = Deadlines(StrongConfig(timeout_s=60, total_timeout_s=115), clock)
    clock.now += 40  # of which the reader took 10
    deadlines.took(1030, token=False)
    assert deadlines.when == 1070
    clock.now += 10
    deadlines.took(1050)
    assert deadlines.when == 1110 and facts(deadlines.overdue()) == (60, "strong.timeout_s", False)
    clock.now += 20
    deadlines.took(1070)
    assert deadlines.when == 1125 and facts(deadlines.overdue()) == (115, "strong.total_timeout_s", True)


def test_further_tries_take_twelve_seconds_in_all(clock):
    deadlines = Deadlines(StrongConfig(timeout_s=3600, total_timeout_s=3600), clock)
    clock.now += 30  # the first try may have taken its time
    assert not deadlines.leaves_room(RETRIES_S + 1)
    assert deadlines.leaves_room(RETRIES_S)
    clock.now += 5
    assert deadlines.leaves_room(RETRIES_S - 5) and not deadlines.leaves_room(RETRIES_S - 4.9)
    clock.now += 7.1
    assert not deadlines.leaves_room(0)


@pytest.mark.parametrize("setting", ["first_token_timeout_s", "total_timeout_s"])
def test_no_try_begins_where_it_could_not_end(clock, setting):
    deadlines = Deadlines(StrongConfig(timeout_s=3600, **{setting: 4.0}), clock)
    assert deadlines.leaves_room(3.9) and not deadlines.leaves_room(4.0)


# ---- the watchdog


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_wait_ends_at_the_moment_and_the_task_goes_on():
    async def main():
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.05
        with Watchdog(lambda: end, TimeoutError) as watchdog:
            assert await watchdog.wait(asyncio.sleep(0, "quick")) == "quick"
            with pytest.raises(TimeoutError):
                await watchdog.wait(asyncio.sleep(3600))
        assert loop.time() >= end
        assert asyncio.current_task().cancelling() == 0
        return await asyncio.sleep(0, "on")

    assert run(main()) == "on"


def test_the_moment_may_move_in_both_directions():
    async def main():
        loop = asyncio.get_running_loop()
        ends = [loop.time() + 0.05]
        with Watchdog(lambda: ends[-1], TimeoutError) as watchdog:
            ends.append(loop.time() + 0.3)
            assert await watchdog.wait(asyncio.sleep(0.1, "later")) == "later"
            ends.append(loop.time() + 3600)
            await watchdog.wait(asyncio.sleep(0.3))
            ends.append(loop.time() + 0.02)
            watchdog.sooner()
            with pytest.raises(TimeoutError):
                await watchdog.wait(asyncio.sleep(3600))

    run(main())


def test_time_between_the_waits_is_nobodys():
    async def main():
        loop = asyncio.get_running_loop()
        ends = [loop.time() + 0.02]
        with Watchdog(lambda: ends[-1], TimeoutError) as watchdog:
            await asyncio.sleep(0.2)
            ends.append(loop.time() + 3600)
            assert await watchdog.wait(asyncio.sleep(0.1, "fine")) == "fine"
        ends.append(0)
        await asyncio.sleep(0.1)  # nor after it is left

    run(main())


def test_anothers_cancel_is_no_timeout():
    async def main():
        async def work():
            with Watchdog(lambda: asyncio.get_running_loop().time() + 3600, TimeoutError) as watchdog:
                await watchdog.wait(asyncio.sleep(3600))

        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
