from pathlib import Path

from loadtests.probes.disk_probe import file_system_of, probe_disk

MOUNTS = """/dev/vda / ext4 rw,relatime 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/vdb /tmp/disk xfs rw 0 0
"""


def test_the_innermost_mount_tells_the_file_system() -> None:
    assert file_system_of(Path("/home/me"), MOUNTS) == "ext4"
    assert file_system_of(Path("/tmp/x"), MOUNTS) == "tmpfs"
    assert file_system_of(Path("/tmp/disk/ledger"), MOUNTS) == "xfs"
    assert file_system_of(Path("/tmpfoo"), MOUNTS) == "ext4"
    assert file_system_of(Path("/x"), "") == "unknown"


def test_every_write_is_timed_and_nothing_is_left(tmp_path: Path) -> None:
    figures = probe_disk(tmp_path, 20)
    assert figures.writes == 20
    assert 0 < figures.p50_ms <= figures.p99_ms <= figures.max_ms
    assert not list(tmp_path.iterdir())
