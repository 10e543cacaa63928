"""The faults that a replica can be told to have, and the command that tells it. Pure."""

from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FaultKind = Literal["stall", "slow", "error", "cut", "crash", "restore", "clear"]


class FaultCommand(BaseModel):
    """The body of `POST /faults`.

    stall    no step ends for `duration_s`; connections stay open, /health answers
    slow     steps take `factor` times as long
    error    `share` of new requests get 500
    cut      `share` of new streams are cut after `after_tokens` tokens
    crash    the port closes, answers break off, the record is no longer published (kill -9)
    restore  a crashed replica starts again, empty, on its old port
    clear    all of the above but crash ends
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    replicas: tuple[int, ...] | None = Field(None, description="Indexes; all when left out.")
    duration_s: float = Field(3600.0, gt=0, description="Of a stall, on the wall clock.")
    factor: float = Field(10.0, gt=0)
    share: float = Field(1.0, ge=0, le=1)
    after_tokens: int = Field(4, ge=0)


class Faults:
    """What one replica suffers from now, besides a stall or a crash."""

    def __init__(self, source: Random) -> None:
        self._source = source
        self.slow_factor = 1.0
        self._error_share = 0.0
        self._cut_share = 0.0
        self._cut_after_tokens = 0

    def set(self, command: FaultCommand) -> None:
        """Take a command of kind slow, error, cut or clear."""
        if command.kind == "slow":
            self.slow_factor = command.factor
        elif command.kind == "error":
            self._error_share = command.share
        elif command.kind == "cut":
            self._cut_share, self._cut_after_tokens = command.share, command.after_tokens
        elif command.kind == "clear":
            self.slow_factor, self._error_share, self._cut_share = 1.0, 0.0, 0.0

    def is_next_an_error(self) -> bool:
        """Whether the request that just came gets 500."""
        return self._error_share > 0 and self._source.random() < self._error_share

    def next_cut_after_tokens(self) -> int | None:
        """After how many tokens the stream that just began is cut; None: not at all."""
        if self._cut_share > 0 and self._source.random() < self._cut_share:
            return self._cut_after_tokens
        return None
