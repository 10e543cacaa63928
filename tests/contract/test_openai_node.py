"""Runs node/openai.test.mjs: OpenAI's SDK for Node, installed from npm by its lock file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]

_FOLDER = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def node_modules() -> None:
    npm = shutil.which("npm")
    assert npm, "npm is not installed: apt-get install nodejs npm"
    lock = _FOLDER / "package-lock.json"
    installed = _FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=_FOLDER, check=True)


@pytest.mark.usefixtures("node_modules")
async def test_openais_node_sdk(floodgate: RunningFloodgate, api_key: str) -> None:
    environment = {
        **os.environ,
        "FLOODGATE_TEST_URL": floodgate.url,
        "FLOODGATE_TEST_KEY": api_key,
        "FLOODGATE_TEST_MODEL": MODEL,
    }
    done = subprocess.run(
        ["node", "--test", "openai.test.mjs"],
        cwd=_FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    await floodgate.until_engine(running=0)
