"""The waitlist's line as automatic release's door: a decision is a batch of the same id."""

from waitlist.directory import Directory


class LineDoor:
    def __init__(self, directory: Directory) -> None:
        """Needs a directory with a line (settings)."""
        self._directory = directory

    async def people_waiting(self) -> int:
        overview = await self._directory.overview.line()
        return overview.in_line - overview.pending

    async def release(self, count: int, decision_id: str) -> int:
        batch = await self._directory.releases.release(
            count, reason="automatic", batch_id=f"batch_{decision_id}"
        )
        return batch.released
