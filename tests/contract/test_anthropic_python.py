"""Anthropic's own Python SDK against a real model behind the gate."""

from collections.abc import AsyncIterator

import anthropic
import pytest

from tests.running_floodgate import MODEL, RunningFloodgate
from waitlist.proofs.tokens import new_api_key

pytestmark = [pytest.mark.contract, pytest.mark.timeout(180)]

HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
async def client(
    floodgate: RunningFloodgate, api_key: str
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=floodgate.url, api_key=api_key) as made:
        yield made


async def test_a_message(client: anthropic.AsyncAnthropic) -> None:
    answer = await client.messages.create(model=MODEL, max_tokens=10, messages=HELLO)
    assert answer.role == "assistant"
    assert answer.content[0].type == "text"
    assert answer.usage.output_tokens > 0


async def test_a_streamed_message(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(model=MODEL, max_tokens=10, messages=HELLO) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == text


async def test_errors_have_anthropics_classes(client: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        await client.with_options(api_key=new_api_key()).messages.create(
            model=MODEL, max_tokens=5, messages=HELLO
        )
    assert unknown.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.create(model="other", max_tokens=5, messages=HELLO)
