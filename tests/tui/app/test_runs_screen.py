"""The screen of all runs."""

import pytest

from app_pilot import drawn, opened, sees
from recorded_store import FAILED


@pytest.mark.anyio
async def test_how_the_runs_look(store, view, snapshot_svg):
    async with opened(store, **view) as pilot:
        await sees(pilot, FAILED)
        assert await drawn(pilot) == snapshot_svg
