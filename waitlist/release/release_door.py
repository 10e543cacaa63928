"""The waitlist's line as automatic release's door: a decision is a batch of the same id."""

from waitlist.line.overview import Overview
from waitlist.release.releases import Releases


class LineDoor:
    def __init__(self, overview: Overview, releases: Releases) -> None:
        self._overview = overview
        self._releases = releases

    async def people_waiting(self) -> int:
        overview = await self._overview.line()
        return overview.in_line - overview.pending

    async def is_paused(self) -> bool:
        return "releasing" in (await self._overview.line()).paused

    async def release(self, count: int, decision_id: str) -> int:
        batch = await self._releases.release(
            count, reason="automatic", batch_id=f"batch_{decision_id}"
        )
        return batch.released
