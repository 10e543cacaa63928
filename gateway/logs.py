"""Logging: one line an event, JSON unless a person watches. Never a key, a code or a prompt."""

import logging
import sys
from typing import Literal

import orjson
import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(level: str, form: Literal["auto", "json", "console"]) -> None:
    """Call once, at the start of a process."""
    number = _LEVELS[level]
    as_json = form == "json" or (form == "auto" and not sys.stdout.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        structlog.configure(
            processors=[
                *shared,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(number),
            cache_logger_on_first_use=True,
        )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stdout, force=True)


def _dumps(event: object, **_: object) -> bytes:
    return orjson.dumps(event, default=repr)
