from loadtests.engine_simulator.prefix_cache import PrefixCache


def cache(blocks_max: int = 100) -> PrefixCache:
    """Blocks of four tokens, sixteen bytes."""
    return PrefixCache(blocks_max=blocks_max, block_tokens=4)


def test_whole_blocks_are_found_as_far_as_prompts_begin_alike() -> None:
    found = cache()
    found.look(b"a" * 40)
    assert (found.query_tokens, found.hit_tokens) == (10, 0)
    found.look(b"a" * 40 + b"b" * 40)
    assert (found.query_tokens, found.hit_tokens) == (30, 8)


def test_a_block_behind_another_beginning_is_not_found() -> None:
    found = cache()
    found.look(b"a" * 16 + b"c" * 16)
    found.look(b"b" * 16 + b"c" * 16)
    assert found.hit_tokens == 0


def test_what_was_not_used_for_longest_goes_first() -> None:
    found = cache(blocks_max=2)
    for prompt in (b"a" * 16, b"b" * 16, b"a" * 16, b"c" * 16):
        found.look(prompt)
    assert found.hit_tokens == 4
    found.look(b"b" * 16)
    assert found.hit_tokens == 4
    found.look(b"c" * 16)
    assert found.hit_tokens == 8
