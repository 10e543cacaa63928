import json

import pytest

from gateway.endpoints import ENDPOINTS
from gateway.line.prefix_affinity import conversation_digest
from gateway.request.request_policy import view_request

SYSTEM = {"role": "system", "content": "You answer in verse. " * 50}
FIRST = {"role": "user", "content": "Tell me of rivers."}
LATER = [{"role": "assistant", "content": "They run."}, {"role": "user", "content": "Whither?"}]
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}


def digest(endpoint: str, account_key: str = "account", **body: object) -> str:
    request = view_request(BY_NAME[endpoint], json.dumps({"model": "m", **body}).encode())
    return conversation_digest(request.texts[: request.beginning], account_key)


def chat(*messages: object, account_key: str = "account") -> str:
    return digest("chat/completions", account_key, messages=messages)


@pytest.mark.parametrize("beginning", [[FIRST], [SYSTEM, FIRST], [SYSTEM, SYSTEM, FIRST]])
def test_every_turn_of_a_chat_has_the_digest_of_its_first(beginning: list[object]) -> None:
    first = chat(*beginning)
    assert len(first) == 16
    assert chat(*beginning, *LATER) == first
    assert chat(*beginning, *LATER, *LATER) == first


def test_content_in_parts_counts_up_to_the_end_of_the_users_first_message() -> None:
    parts = [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "of rivers."}]
    first = chat({"role": "user", "content": parts})
    assert chat({"role": "user", "content": parts}, *LATER) == first
    assert chat({"role": "user", "content": parts[:1]}) != first


def test_the_other_endpoints_turns_have_the_digest_of_the_first_too() -> None:
    first = digest("responses", instructions="In verse.", input="Rivers?")
    assert digest("responses", instructions="In prose.", input="Rivers?") != first
    items = [{"role": "user", "content": "Rivers?"}, *LATER]
    assert digest("responses", instructions="In verse.", input=items) == first
    first = digest("messages", system="In verse.", messages=[FIRST], max_tokens=9)
    assert digest("messages", system="In verse.", messages=[FIRST, *LATER], max_tokens=9) == first
    prompt = "Once upon a time, " * 40
    first = digest("completions", prompt=prompt)
    assert digest("completions", prompt=prompt + "there was a river.") == first
    assert digest("completions", prompt=[prompt, "another"]) == first


def test_conversations_that_begin_otherwise_have_digests_of_their_own() -> None:
    others = {
        chat(SYSTEM, FIRST),
        chat(FIRST),
        chat(SYSTEM, {"role": "user", "content": "Tell me of lakes."}),
        chat({"role": "system", "content": "You answer in prose."}, FIRST),
        chat({"role": "user", "content": "河"}),
    }
    assert len(others) == 5


def test_accounts_digests_of_the_same_conversation_differ() -> None:
    assert chat(FIRST) != chat(FIRST, account_key="another")


def test_a_conversation_without_a_users_message_is_known_by_all_of_it() -> None:
    assert chat(SYSTEM) != chat(SYSTEM, LATER[0])


def test_a_prompt_of_token_ids_has_no_digest() -> None:
    assert digest("completions", prompt=[1, 2, 3]) == ""
