"""Which kind of caller each of locust's users is now. Pure.

Locust spawns and stops users of one class by number; what they do follows the stage, also when
a stage wants other kinds than the one before.
"""

from collections import Counter
from collections.abc import Mapping


class Roles:
    """Hands out kinds until each has as many users as the stage wants."""

    def __init__(self) -> None:
        self._wanted: Mapping[str, int] = {}
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> Mapping[str, int]:
        """How many users of each kind there are."""
        return +self._taken

    def want(self, users: Mapping[str, int]) -> None:
        """A stage begins. Users notice when they ask again."""
        self._wanted = users

    def take(self, current: str = "") -> str:
        """A user's kind from now on: its current one, unless there are too many of it.

        A user that no kind lacks keeps what it has, or takes the kind that is wanted most: locust
        is about to stop somebody.
        """
        if current and self._taken[current] <= self._wanted.get(current, 0):
            return current
        lacking = {
            kind: count - self._taken[kind]
            for kind, count in self._wanted.items()
            if count > self._taken[kind]
        }
        if current and not lacking:
            return current
        # The rarest kind first: one crowd, then a hundred greedy ones, then the others.
        kind = min(lacking or self._wanted, key=lambda one: self._wanted[one])
        self.give_back(current)
        self._taken[kind] += 1
        return kind

    def give_back(self, kind: str) -> None:
        """A user ends."""
        if kind:
            self._taken[kind] -= 1
