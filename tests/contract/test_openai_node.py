"""OpenAI's SDK for Node against a real model behind the gate: node/openai.test.mjs."""

import pytest

from tests.node_sdk import install_node_sdk, run_node_tests
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [pytest.mark.contract, pytest.mark.timeout(300)]


async def test_openais_node_sdk(floodgate: RunningFloodgate, api_key: str) -> None:
    install_node_sdk()
    await run_node_tests("openai.test.mjs", url=floodgate.url, api_key=api_key, model=MODEL)
    await floodgate.until_engine(running=0)
