"""What an engine's refusal is to the caller: its own words, or a fault that is not the caller's."""

from collections.abc import Iterable

import structlog

from gateway.engines.upstream import EngineAnswer
from gateway.errors import ApiError, EngineBusy, EngineFailed, EngineRefused
from gateway.telemetry.metrics import ENGINE_FAULTS

log = structlog.get_logger(__name__)

# The secret between gateway and engine, or the upstream's key, is wrong: nothing of the caller's.
_NOT_LET_IN = (401, 403)
# Of what the engine said, for the log.
TOLD_CHARS_MAX = 500


async def refusal(answer: EngineAnswer, headers: Iterable[tuple[bytes, bytes]]) -> ApiError:
    """What an answer with another status than 200 is.

    EngineFailed for a fault of the engine's own, or where it would not let the gateway in;
    EngineBusy where it has too much to do (429), which is no limit of the caller's; else
    EngineRefused, with `headers`.
    """
    if answer.status == 429:
        return EngineBusy()
    body = await answer.whole()
    if answer.status >= 500 or answer.status in _NOT_LET_IN:
        return engine_failed(answer.status, body)
    told = {name.decode(): value.decode() for name, value in headers}
    return EngineRefused(answer.status, body, told)


def engine_failed(status: int, told: bytes) -> EngineFailed:
    """Counts and logs what the engine said, which is not for the caller."""
    ENGINE_FAULTS.labels("status").inc()
    log.error("engine_fault", status=status, body=told[:TOLD_CHARS_MAX])
    return EngineFailed("The engine failed to answer this request.")
