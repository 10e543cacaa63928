"""OpenAI's SDK for Node, installed from npm by its lock file, running the scripts beside it."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

_FOLDER = Path(__file__).parent / "contract" / "node"


def install_node_sdk() -> None:
    npm = shutil.which("npm")
    assert npm, "npm is not installed: apt-get install nodejs npm"
    lock = _FOLDER / "package-lock.json"
    installed = _FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=_FOLDER, check=True)


async def run_node_tests(script: str, *, url: str, api_key: str, model: str) -> None:
    """Runs one script of node:test. Raises AssertionError with its report when a test fails."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "--test",
        script,
        cwd=_FOLDER,
        env={
            **os.environ,
            "FLOODGATE_TEST_URL": url,
            "FLOODGATE_TEST_KEY": api_key,
            "FLOODGATE_TEST_MODEL": model,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        report, _ = await asyncio.wait_for(process.communicate(), 240)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, report.decode()
