"""Memory and disk: what counts as free, and what is said when it is too little."""

from pathlib import Path

import pytest

from deploy.errors import MachineTooSmall
from deploy.machine import GIB, check_disk, has_gpu, memory_available_bytes


def meminfo(folder: Path, available_kib: int) -> Path:
    path = folder / "meminfo"
    path.write_text(f"MemTotal: 1 kB\nMemAvailable: {available_kib} kB\n")
    return path


def cgroup(folder: Path, limit: str, used: int, cache: int) -> Path:
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    return folder


def test_kernel_says_what_is_available(tmp_path: Path) -> None:
    assert memory_available_bytes(meminfo(tmp_path, 2048), tmp_path / "none") == 2048 * 1024


def test_container_limit_counts_where_it_is_lower(tmp_path: Path) -> None:
    group = cgroup(tmp_path, "3000", used=2500, cache=400)
    assert memory_available_bytes(meminfo(tmp_path, 2048), group) == 900


def test_container_without_limit_changes_nothing(tmp_path: Path) -> None:
    group = cgroup(tmp_path, "max", used=2500, cache=400)
    assert memory_available_bytes(meminfo(tmp_path, 1), group) == 1024


def test_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MachineTooSmall, match="The model needs about") as refused:
        check_disk(tmp_path / "not" / "yet", 10**9 * GIB, "The model")
    assert "FLOODGATE_HOME" in refused.value.remedy


@pytest.mark.parametrize(
    ("devices", "expected"),
    [([], False), (["nvidiactl", "nvidia-uvm"], False), (["nvidia0", "nvidiactl"], True)],
)
def test_gpu_is_a_numbered_device(tmp_path: Path, devices: list[str], expected: bool) -> None:
    for name in devices:
        (tmp_path / name).touch()
    assert has_gpu(tmp_path) is expected
