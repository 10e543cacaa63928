"""Something that is looked at again and again while a load runs."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

Found = TypeVar("Found")

PERIOD_S = 0.5


class Looks(Generic[Found]):
    """Looks twice a second while it is entered, in a thread of its own; `taken` has what it saw."""

    def __init__(self, look: Callable[[], Found]) -> None:
        self.taken: list[Found] = []
        self._look = look
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="looks", daemon=True)

    def _look_on(self) -> None:
        try:
            while not self._stop.wait(PERIOD_S):
                self.taken.append(self._look())
        except Exception as error:  # told to whoever entered
            self._failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the looking. Raises what a look raised, unless something else is on its way."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure
