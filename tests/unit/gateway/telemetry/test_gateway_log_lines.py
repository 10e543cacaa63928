import asyncio
import io

from gateway.telemetry.log_lines import HeldLines


async def test_access_lines_go_out_together_and_soon() -> None:
    file = io.BytesIO()
    lines = HeldLines(file)
    lines.info(b"one")
    lines.info(b"two")
    assert file.getvalue() == b""
    while not file.getvalue():
        await asyncio.sleep(0.01)
    assert file.getvalue() == b"one\ntwo\n"
    lines.info(b"three")
    while file.getvalue().count(b"\n") < 3:
        await asyncio.sleep(0.01)


async def test_a_warning_goes_out_at_once_behind_what_came_before() -> None:
    file = io.BytesIO()
    lines = HeldLines(file)
    lines.info(b"one")
    lines.warning(b"two")
    assert file.getvalue() == b"one\ntwo\n"


async def test_no_more_than_256_wait_and_the_last_can_be_written_out() -> None:
    file = io.BytesIO()
    lines = HeldLines(file)
    for number in range(257):
        lines.info(b"%d" % number)
    assert file.getvalue().count(b"\n") == 256
    lines.write_out()
    assert file.getvalue().splitlines() == [b"%d" % number for number in range(257)]


def test_without_a_loop_nothing_waits() -> None:
    file = io.BytesIO()
    HeldLines(file).info(b"one")
    assert file.getvalue() == b"one\n"
