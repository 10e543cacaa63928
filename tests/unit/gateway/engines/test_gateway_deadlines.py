import asyncio

import pytest

from gateway.engines.deadlines import Deadlines


async def test_what_takes_too_long_is_ended() -> None:
    cleaned_up = False
    with pytest.raises(TimeoutError), Deadlines(0.02).begin():
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up = True
    assert cleaned_up
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_has_the_whole_time_and_none_is_forgotten() -> None:
    deadlines = Deadlines(0.05)
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            with deadlines.begin():
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(number)

    first = asyncio.create_task(work(1))
    await asyncio.sleep(0)
    with deadlines.begin():  # comes and goes in between
        pass
    second = asyncio.create_task(work(2))
    await asyncio.gather(first, second)
    third = asyncio.create_task(work(3))  # after the timer had nothing left to wait for
    await third
    assert ended == [1, 2, 3]


async def test_what_ends_in_time_is_left_alone() -> None:
    deadlines = Deadlines(0.02)
    with deadlines.begin():
        pass
    with pytest.raises(TimeoutError), Deadlines(0.1).begin():  # well past the first deadline
        await asyncio.Event().wait()


async def test_a_cancel_from_outside_stays_a_cancel() -> None:
    working = asyncio.Event()

    async def work() -> None:
        with Deadlines(600).begin():
            working.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await working.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="own"), Deadlines(600).begin():
        raise ValueError("own")
