"""Floodgate on a GPU. Nobody has run this yet: the machines of this project have none."""

from collections.abc import Iterator

import httpx
import pytest

from serving.accelerator import gpu_count
from tests.running_floodgate import MODEL, RunningFloodgate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(gpu_count() == 0, reason="no GPU"),
]


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFloodgate]:
    running = RunningFloodgate(
        tmp_path_factory.mktemp("gpu"), accelerator="gpu", gpu_memory_utilization=0.5
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_it_answers_with_compiled_kernels_and_a_cache_sized_by_its_memory(
    on_gpu: RunningFloodgate,
) -> None:
    headers = {"authorization": f"Bearer {on_gpu.new_key()}"}
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 16}
    answer = httpx.post(f"{on_gpu.url}/v1/chat/completions", json=chat, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] > 0
    (replica,) = on_gpu.replicas()
    assert replica.slots == 256
