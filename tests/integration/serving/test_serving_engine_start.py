"""What the replica's own process knows of vLLM once its engine is started."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

# Ray makes a GPU's engine configuration in a process of its own: this one sees none made.
SCRIPT = """
import asyncio
from serving.engine import ray_internals

class Elsewhere:
    @classmethod
    def sync_init(cls, config):
        return cls()

    async def start(self):
        pass

ray_internals._Server = Elsewhere
arguments = {"model_loading_config": {"model_id": "moss"}, "accelerator_config": {"kind": "gpu"}}
asyncio.run(ray_internals.start_engine({**arguments, "engine_kwargs": {}}))

from vllm.tool_parsers import ToolParserManager
print("registered:", "moss" in ToolParserManager.list_registered())
"""


def test_plugins_are_known_also_where_the_configuration_is_made_in_another_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "registered: True" in done.stdout, done.stdout + done.stderr
