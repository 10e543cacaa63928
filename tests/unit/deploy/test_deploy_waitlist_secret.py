"""The waitlist's secret is made once and kept."""

import stat
from pathlib import Path

from deploy.home import Home
from deploy.waitlist_secret import keep_waitlist_secret, read_waitlist_secret


def test_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path)
    assert read_waitlist_secret(home) == ""
    made = keep_waitlist_secret(home)
    assert len(made) >= 32
    assert keep_waitlist_secret(home) == read_waitlist_secret(home) == made
    assert stat.S_IMODE(home.waitlist_secret.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"waitlist-secret"}
