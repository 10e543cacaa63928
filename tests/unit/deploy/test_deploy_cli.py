"""The command line: quick, without Ray, and without tracebacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def floodgate(*arguments: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {name: text for name, text in os.environ.items() if name[:10] != "FLOODGATE_"}
    environ |= {"PYTHONPATH": str(ROOT), "FLOODGATE_HOME": str(folder / "home"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=folder,
        env=environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command_and_loads_no_engine(tmp_path: Path) -> None:
    done = floodgate("--help", folder=tmp_path)
    assert done.returncode == 0
    groups = ("invites", "keys", "waitlist", "campaigns", "accounts", "admins")
    for name in ("up", "down", "status", "gateway", "serving", "settings", *groups):
        assert f" {name} " in done.stdout
    code = (
        "import sys, deploy.cli;"
        "print(*{'ray', 'vllm', 'torch', 'redis', 'fastapi', 'pydantic'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["status"], 4, "does not run"),
        (["down"], 0, "does not run"),
        (["invites", "create"], 4, "floodgate up"),
        (["keys", "list"], 4, "floodgate up"),
        (["keys", "revoke", "key_1"], 4, "floodgate up"),
        (["waitlist", "release", "1"], 4, "floodgate up"),
        (["accounts", "show", "acct_1"], 4, "floodgate up"),
        (["campaigns", "list"], 4, "floodgate up"),
        (["admins", "add", "x"], 4, "floodgate up"),
        (["gateway"], 1, "FLOODGATE_LEDGER_URL"),
        (["serving"], 1, "FLOODGATE_MODEL"),
        (["invites", "create", "--expires-in", "soon"], 1, "no duration"),
        (["settings", "--check", "none"], 1, "differs"),
        (["no-such-command"], 2, "No such command"),
        (["up", "--port", "0"], 2, "--port"),
    ],
)
def test_operating_errors_are_told_in_words(
    tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    done = floodgate(*arguments, folder=tmp_path)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_env_file_counts_where_the_environment_is_silent(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FLOODGATE_PORT=99999\nPATH=/nowhere\n")
    assert "FLOODGATE_PORT" in floodgate("status", folder=tmp_path).stderr
    assert "does not run" in floodgate("status", folder=tmp_path, FLOODGATE_PORT="1").stdout


def test_settings_are_printed(tmp_path: Path) -> None:
    done = floodgate("settings", folder=tmp_path)
    assert done.stdout == (ROOT / ".env.example").read_text(encoding="utf-8")


def test_wrong_waitlist_setting_stops_the_gateway_with_its_name(tmp_path: Path) -> None:
    done = floodgate(
        "gateway",
        folder=tmp_path,
        FLOODGATE_LEDGER_URL="redis://127.0.0.1:1/0",
        FLOODGATE_FLOW_URL="redis://127.0.0.1:1/0",
        FLOODGATE_WAITLIST_SECRET="hunter2",
    )
    assert done.returncode == 1
    assert "FLOODGATE_WAITLIST_SECRET must have at least 32 characters" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
