"""Taking a ledger from one schema version to the next, a page at a time.

A migration is a module here, numbered by the version that it leads to, with one function that does
one page. While it is under way the ledger's schema reads `1>2`: no Floodgate of either version
works with it. What is done stands in the ledger with each page, so a migration that was cut short
goes on where it stopped, and the same page done twice changes nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from waitlist.errors import LedgerIncompatible, LedgerMigrationRefused
from waitlist.storage import redis_keys
from waitlist.storage.ledger import Ledger
from waitlist.storage.migrations import m0002_account_keys


@dataclass(frozen=True, slots=True)
class Migration:
    """`page` does one page from a cursor ('0' at first); returns the next one ('' at the end) and
    how many records it went through. It stores the next cursor in the step that does the page."""

    version: int
    title: str
    page: Callable[[Ledger, str], Awaitable[tuple[str, int]]]


MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(2, "the keys of each account", m0002_account_keys.page),
)


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """How far one migration has come since this call began."""

    version: int
    title: str
    records: int


async def migrate(
    ledger: Ledger,
    *,
    target: int = int(redis_keys.SCHEMA_VERSION),
    migrations: Sequence[Migration] = MIGRATIONS,
    on_progress: Callable[[MigrationProgress], None] = lambda progress: None,
) -> tuple[int, int]:
    """Brings a ledger to a version; returns the one found and the one reached.

    `ledger` must have been opened for any schema. An empty ledger gets the target at once.

    Raises:
        LedgerIncompatible: the ledger is of a later version; there is no way back but a backup.
        LedgerMigrationRefused: a step is missing, or the schema is none of ours.
        LedgerUnavailable: the ledger went away; calling again goes on.
    """
    found_text = await ledger.run("begin_schema", [redis_keys.SCHEMA], [target])
    found = _version(found_text)
    if found > target or (">" in found_text and found + 1 > target):
        raise LedgerIncompatible(found_text, str(target))
    steps = {migration.version: migration for migration in migrations}
    missing = [version for version in range(found + 1, target + 1) if version not in steps]
    if missing:
        raise LedgerMigrationRefused(f"There is no migration to schema version {missing[0]}.")
    for version in range(found + 1, target + 1):
        await _run(ledger, steps[version], on_progress)
    return found, target


async def _run(
    ledger: Ledger, migration: Migration, on_progress: Callable[[MigrationProgress], None]
) -> None:
    keys = [redis_keys.SCHEMA, redis_keys.MIGRATION]
    cursor = await ledger.run("begin_migration", keys, [migration.version - 1, migration.version])
    if cursor is None:
        raise LedgerMigrationRefused("Another migration has begun meanwhile.")
    # Whoever checked the schema before looks again, and is refused from here on.
    await ledger.forget_scripts()
    records = 0
    while cursor != "":
        cursor, rows = await migration.page(ledger, cursor)
        records += rows
        on_progress(MigrationProgress(migration.version, migration.title, records))
    await ledger.run("end_migration", keys, [migration.version - 1, migration.version])


def _version(text: str) -> int:
    """The version that is whole: 1 of `1>2`."""
    try:
        return int(text.partition(">")[0])
    except ValueError:
        raise LedgerMigrationRefused(
            f"The ledger's schema reads {text[:40]!r}, which Floodgate never wrote."
        ) from None
