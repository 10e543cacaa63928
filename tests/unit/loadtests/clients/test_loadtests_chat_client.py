from loadtests.clients.chat_client import ChatLoad, ChatTimes, prompts


def test_prompts_repeat_by_seed_and_share_no_beginning() -> None:
    texts = prompts(50, seed=7)
    assert texts == prompts(50, seed=7)
    assert texts != prompts(50, seed=8)
    assert len({text[:8] for text in texts}) == 50


def test_figures_of_a_load() -> None:
    chats = tuple(ChatTimes(0.1 * number, 2.0, 64, (0.02, 0.04)) for number in (1, 2, 3))
    load = ChatLoad(3, 2.0, chats)
    assert load.tokens_per_s == 96
    assert round(load.ttft_ms(50)) == 200
    assert round(load.ttft_ms(99)) == 300
    assert round(load.gap_ms(99)) == 40


def test_answers_of_one_token_have_no_gaps() -> None:
    assert ChatLoad(1, 1.0, (ChatTimes(0.1, 0.1, 1, ()),)).gap_ms(50) == 0
