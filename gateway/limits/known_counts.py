"""Token counts of texts that were counted lately, by one tokenizer.

A conversation is sent whole with each of its turns, and most of an application's requests begin
with the same instruction: all but the newest text has been counted before. Of a text only its hash
is kept, whose seed is this process's own secret: no prompt stays here, and nobody can make two
texts meet. Two that do (one pair in 10^9 full caches) make an estimate wrong, which the settlement
corrects.
"""

# 100 bytes each: 2 x 3 MB at most. As many texts as 1,500 conversations of 20 messages have.
_TEXTS_MAX = 32_768


class KnownCounts:
    """The last 32,768 texts at least, twice as many at most: what a full half has not seen goes."""

    def __init__(self, texts_max: int = _TEXTS_MAX) -> None:
        self._texts_max = texts_max
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def get(self, text: str) -> int | None:
        """The text's tokens, or None where they must be counted."""
        key = hash(text)
        count = self._young.get(key)
        if count is None and (count := self._old.get(key)) is not None:
            self._put(key, count)
        return count

    def put(self, text: str, count: int) -> None:
        self._put(hash(text), count)

    def _put(self, key: int, count: int) -> None:
        if len(self._young) >= self._texts_max:
            self._old, self._young = self._young, {}
        self._young[key] = count
