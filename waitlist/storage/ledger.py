"""The ledger Redis: named scripts, each within a deadline, each failure a clear error.

The one module that imports redis for the ledger. A call is sent again when its connection breaks,
because nobody can know whether the ledger had executed it. Every script in lua/ is written for
that: sent twice, it does its work once and gives the same answer.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import redis.asyncio as redis
import redis.exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from waitlist.errors import LedgerIncompatible, LedgerUnavailable
from waitlist.storage import redis_keys

# One connection does 6,700 writes/s with an fsync each, fifty do 82,000; 16 are plenty for one
# process and few enough for a ledger that many processes share.
_CONNECTIONS_MAX = 16
# A restarted ledger is back within some 100 ms. One that is gone is told after half a second,
# so that callers who can go on without it do not stand still.
_PAUSES_BEFORE_RETRY_S = (0.05, 0.15, 0.3)

# A subscription that has been silent for this long is asked whether it is still alive.
_SILENCE_S_MAX = 10.0

_CHECK = "Check that it runs (`floodgate status`) and that FLOODGATE_LEDGER_URL points at it."
_SCRIPTS = {file.stem: file.read_text() for file in (Path(__file__).parent / "lua").glob("*.lua")}
_SHAS = {
    name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    for name, text in _SCRIPTS.items()
}


class Ledger:
    """Runs the scripts of waitlist/storage/lua. Connections are made when they are first needed."""

    def __init__(self, url: str, *, deadline_s: float, any_schema: bool = False) -> None:
        """`any_schema`: also works on a ledger of another version, and writes none into it.

        Raises LedgerUnavailable when the URL is none of a Redis.
        """
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS_MAX,
                timeout=deadline_s,
                socket_timeout=deadline_s,
                socket_connect_timeout=deadline_s,
                retry=Retry(NoBackoff(), 0),
                client_name="floodgate-waitlist",
                decode_responses=True,
            )
        except ValueError:  # its text quotes the URL, password and all
            raise LedgerUnavailable(
                "Accounts cannot be reached at the moment.",
                hint="FLOODGATE_LEDGER_URL must look like redis://:password@127.0.0.1:6379/0.",
            ) from None
        self._client: redis.Redis = redis.Redis.from_pool(pool)
        self._deadline_s = deadline_s
        self._any_schema = any_schema
        self._schema_checked = False

    async def close(self) -> None:
        await self._client.aclose()

    async def ping(self) -> None:
        """Returns when the ledger answers and has a schema that we know.

        Raises:
            LedgerUnavailable, LedgerIncompatible: see `run`.
        """
        self._schema_checked = False
        await self._within_deadline(None, (), ())

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Runs one script and returns what it returns.

        Raises:
            LedgerUnavailable: the ledger is gone, slower than the deadline, or refuses. After a
                deadline the script may still be executed later.
            LedgerIncompatible: the ledger has another schema version.
        """
        return await self._within_deadline(script, keys, args)

    async def forget_scripts(self) -> None:
        """Makes every client look at the schema again before its next call.

        Raises:
            LedgerUnavailable: see `run`.
        """
        with _errors_mapped(self._deadline_s):
            async with asyncio.timeout(self._deadline_s):
                await self._client.script_flush()

    async def listen(self, channel: str) -> AsyncGenerator[str]:
        """What is published on a channel from now on. Ends by an error only.

        Raises:
            LedgerUnavailable: the connection broke, or the ledger does not answer on it.
        """
        pubsub = self._client.pubsub()
        async with aclosing(pubsub):
            with _errors_mapped(self._deadline_s):
                await pubsub.subscribe(channel)
            pinged = False
            while True:
                wait_s = self._deadline_s if pinged else _SILENCE_S_MAX
                with _errors_mapped(self._deadline_s):
                    message = await pubsub.get_message(timeout=wait_s)
                    if message is None and pinged:
                        raise TimeoutError
                    if message is None:
                        await pubsub.ping()
                pinged = message is None
                if message is not None and message["type"] == "message":
                    yield str(message["data"])

    async def _within_deadline(
        self, script: str | None, keys: Sequence[str], args: Sequence[str | int]
    ) -> Any:
        with _errors_mapped(self._deadline_s):
            async with asyncio.timeout(self._deadline_s):
                answer = await self._with_retries(script, keys, args)
                _still_wanted()
                return answer

    async def _with_retries(
        self, script: str | None, keys: Sequence[str], args: Sequence[str | int]
    ) -> Any:
        for pause_s in _PAUSES_BEFORE_RETRY_S:
            try:
                return await self._execute(script, keys, args)
            except redis_errors.AuthenticationError:
                raise
            except (redis_errors.ConnectionError, OSError):  # gone, restarting, or loading its data
                _still_wanted()
                await asyncio.sleep(pause_s)
        return await self._execute(script, keys, args)

    async def _execute(
        self, script: str | None, keys: Sequence[str], args: Sequence[str | int]
    ) -> Any:
        if not self._schema_checked:
            await self._check_schema()
        if script is None:
            return None
        try:
            return await self._client.evalsha(_SHAS[script], len(keys), *keys, *args)
        except redis_errors.NoScriptError:  # restarted since, maybe with other data
            await self._check_schema()
            return await self._client.eval(_SCRIPTS[script], len(keys), *keys, *args)

    async def _check_schema(self) -> None:
        """Writes our version into an empty ledger; refuses one of another version."""
        if self._any_schema:
            self._schema_checked = True
            return
        expected = redis_keys.SCHEMA_VERSION
        # Read first: a ledger that takes no writes at the moment can still be read.
        found: object = await self._client.get(redis_keys.SCHEMA)
        if found is None:
            found = await self._client.set(redis_keys.SCHEMA, expected, nx=True, get=True)
        if found is not None and found != expected:
            raise LedgerIncompatible(found=str(found), expected=expected)
        self._schema_checked = True


def _still_wanted() -> None:
    """Raises CancelledError again where a library below has swallowed it, as `wait_for` of Python
    3.11 does when its result comes in the same turn: a loop over calls would never end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def _errors_mapped(deadline_s: float) -> Iterator[None]:
    """Turns whatever redis raises into LedgerUnavailable with what to do about it."""
    try:
        yield
    except redis_errors.AuthenticationError as error:
        raise _unavailable(f"The ledger refuses our password. {_CHECK}") from error
    except (TimeoutError, redis_errors.TimeoutError) as error:
        raise _unavailable(
            f"The ledger did not answer within {deadline_s:g} s. {_CHECK}"
        ) from error
    except (redis_errors.ConnectionError, OSError) as error:
        raise _unavailable(f"The ledger cannot be reached ({error}). {_CHECK}") from error
    except redis_errors.RedisError as error:
        raise _unavailable(f"The ledger refused: {error}. {_way_out(str(error))}") from error


def _unavailable(hint: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        "Accounts cannot be reached at the moment. Please try again in a few seconds.", hint=hint
    )


def _way_out(refusal: str) -> str:
    if refusal.startswith(("MISCONF", "OOM")) or "out of memory" in refusal.lower():
        return "Free disk space or memory where the ledger runs."
    if refusal.startswith("NOREPLICAS"):
        return (
            "Its disk is below the floor of free space (FLOODGATE_LEDGER_FREE_BYTES_MIN): free "
            "some and writes are taken again by themselves."
        )
    if refusal.startswith("READONLY"):
        return "FLOODGATE_LEDGER_URL must point at the primary, not at a replica."
    if refusal.startswith(("NOPERM", "NOAUTH")):
        return "Give this user the rights to run scripts and to publish."
    return "See the ledger's log."
