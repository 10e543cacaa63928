"""Import and export of the line: streamed, gone on with, and never twice."""

import asyncio
from typing import Any

import psutil
import pytest

from tests.integration.waitlist.conftest import join
from waitlist.directory import Directory
from waitlist.errors import LedgerUnavailable, RequestMalformed
from waitlist.operators.exports import EXPORTED_FIELDS, exported_row

pytestmark = pytest.mark.integration

FILE = "f" * 64


def people(count: int) -> list[dict[str, str]]:
    return [{"email": f"person{i}@example.com", "joined_at": "2026-01-01"} for i in range(count)]


async def run_import(line: Directory, rows: list[dict[str, str]], file: str = FILE) -> Any:
    async for _ in line.imports.run(file, rows):
        pass
    return await line.imports.progress(file)


async def exported(line: Directory) -> list[dict[str, str]]:
    rows = [exported_row(entry) async for entry in line.exports.entries()]
    return sorted(rows, key=lambda row: int(row["place"] or 0))


async def test_people_are_added_in_the_order_of_the_file(line: Directory) -> None:
    await join(line, "first@example.com")
    rows = [
        {"email": "ada@example.com", "joined_at": "2026-01-02T03:04:05Z", "locale": "zh"},
        {"email": "Bob@EXAMPLE.com", "joined_at": "1767225600000", "note": "press"},
        {"email": "cyd@example.com"},
    ]
    progress = await run_import(line, rows)
    assert (progress.rows, progress.added, progress.skipped) == (3, 3, 0)
    got = await exported(line)
    assert [row["email"] for row in got] == [
        "first@example.com",
        "ada@example.com",
        "Bob@example.com",
        "cyd@example.com",
    ]
    assert got[1]["joined_at"] == "2026-01-02T03:04:05+00:00"
    assert (got[1]["locale"], got[2]["note"], got[2]["state"]) == ("zh", "press", "waiting")
    assert got[2]["joined_at"] == "2026-01-01T00:00:00+00:00"
    assert all(tuple(row) == EXPORTED_FIELDS for row in got)


async def test_import_that_was_stopped_goes_on_and_adds_nobody_twice(line: Directory) -> None:
    rows = people(450)
    steps = line.imports.run(FILE, rows)
    for _ in range(2):
        await anext(steps)
    await steps.aclose()  # type: ignore[attr-defined]
    assert (await line.imports.progress(FILE)).rows == 200
    progress = await run_import(line, rows)
    assert (progress.rows, progress.added, progress.skipped) == (450, 450, 0)
    assert [row["email"] for row in await exported(line)] == [row["email"] for row in rows]
    again = await run_import(line, rows)
    assert again == progress
    assert (await line.overview.line()).in_line == 450


async def test_two_importers_of_one_file_add_everybody_once(
    line: Directory, ledger_state: Any
) -> None:
    rows = people(600)
    await asyncio.gather(*(run_import(line, rows) for _ in range(3)))
    assert (await line.overview.line()).in_line == 600
    entries = ledger_state.records("entry")
    assert len({entry["email"] for entry in entries.values()}) == len(entries) == 600


async def test_importer_goes_on_behind_what_another_added_meanwhile(line: Directory) -> None:
    rows = people(650)
    one, other = line.imports.run(FILE, rows), line.imports.run(FILE, rows)
    assert (await anext(one)).rows == 100
    for added in (200, 300, 400):
        assert (await anext(other)).rows == added
    assert [progress.rows async for progress in one] == [400, 500, 600, 650]
    assert [progress.rows async for progress in other] == [650]
    progress = await line.imports.progress(FILE)
    assert (progress.added, progress.skipped) == (650, 0)
    assert [row["email"] for row in await exported(line)] == [row["email"] for row in rows]


async def test_import_into_a_ledger_that_was_put_back_is_told_to_start_again(
    line: Directory, ledger_state: Any
) -> None:
    rows = people(450)
    steps = line.imports.run(FILE, rows)
    await anext(steps)
    await anext(steps)
    ledger_state.client.flushdb()
    assert (await anext(steps)).rows == 0
    with pytest.raises(LedgerUnavailable, match="Start the import again"):
        await anext(steps)
    progress = await run_import(line, rows)
    assert (progress.rows, progress.added) == (450, 450)


async def test_known_addresses_are_passed_over(line: Directory) -> None:
    await run_import(line, people(3))
    progress = await run_import(line, [*people(5), *people(1)], "a" * 64)
    assert (progress.rows, progress.added, progress.skipped) == (6, 2, 4)


@pytest.mark.parametrize(
    "row",
    [
        {"email": "nobody"},
        {"name": "ada"},
        {"email": "x@example.com", "joined_at": "yesterday"},
        {"email": "x@example.com", "locale": "xx"},
        {"email": "x@example.com", "note": "n" * 201},
    ],
)
async def test_row_that_cannot_be_used_is_named_and_what_stands_before_it_is_in(
    line: Directory, row: dict[str, str]
) -> None:
    rows = [*people(100), *people(50)[:3], row]
    with pytest.raises(RequestMalformed, match="Line 104"):
        await run_import(line, rows)
    assert (await line.imports.progress(FILE)).rows == 100


async def test_imported_people_are_let_in_and_found(line: Directory) -> None:
    await run_import(line, people(3))
    batch = await line.releases.release(1)
    entry_id, _ = await line.overview.find_address("person0@example.com")
    assert entry_id is not None
    code = line.signer.code(entry_id, batch.batch_id)
    await line.redeem(code, "person0@example.com")


async def test_export_has_everybody_once_also_when_gone_on_with(line: Directory) -> None:
    await run_import(line, people(700))
    everybody = [entry.entry_id async for entry in line.exports.entries()]
    assert len(everybody) == len(set(everybody)) == 700
    rest = [entry.entry_id async for entry in line.exports.entries(everybody[:300])]
    assert sorted(everybody[:300] + rest) == sorted(everybody)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_million_people_are_imported_and_exported_in_bounded_memory(
    line: Directory, ledger_state: Any
) -> None:
    memory = psutil.Process().memory_info
    own_bytes = [memory().rss]  # of this process, which other tests may have made large

    before = ledger_state.client.info("memory")["used_memory"]

    def rows() -> Any:
        for i in range(1_000_000):
            if i % 10_000 == 0:
                own_bytes.append(memory().rss)
            yield {"email": f"somebody.{i}@example.com", "joined_at": "1767225600000"}

    async for _ in line.imports.run(FILE, rows()):
        pass
    assert (await line.imports.progress(FILE)).added == 1_000_000
    used = ledger_state.client.info("memory")["used_memory"] - before
    assert used / 1_000_000 <= 450  # row, place and index
    count = 0
    async for _ in line.exports.entries():
        count += 1
        if count % 10_000 == 0:
            own_bytes.append(memory().rss)
    assert count == 1_000_000
    assert max(own_bytes) - own_bytes[0] < 300 * 1024 * 1024
