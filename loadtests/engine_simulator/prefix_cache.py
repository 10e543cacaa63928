"""What of a prompt vLLM would find in its prefix cache: counted, not timed. Pure.

As in vLLM, a block is found when it and all before it are there, whole blocks only, and the one
that was not used for longest goes first. Answers are not kept: their text here is filler.
"""

from loadtests.engine_simulator.generation_request import BYTES_PER_TOKEN


class PrefixCache:
    """The blocks that one engine keeps, by the hash of everything up to their end."""

    def __init__(self, *, blocks_max: int, block_tokens: int) -> None:
        self._blocks_max = blocks_max
        self._block_tokens = block_tokens
        self._blocks: dict[int, None] = {}  # latest use last
        self.query_tokens = 0
        self.hit_tokens = 0

    def look(self, prompt: bytes) -> None:
        """Count what of a prompt is there, and keep the whole of it."""
        block_bytes = self._block_tokens * BYTES_PER_TOKEN
        self.query_tokens += len(prompt) // BYTES_PER_TOKEN
        digest = 0
        hit = True
        for end in range(block_bytes, len(prompt) + 1, block_bytes):
            digest = hash((digest, prompt[end - block_bytes : end]))
            hit = hit and digest in self._blocks
            self.hit_tokens += self._block_tokens * hit
            self._blocks.pop(digest, None)
            self._blocks[digest] = None
        while len(self._blocks) > self._blocks_max:
            del self._blocks[next(iter(self._blocks))]
