from gateway.limits.known_counts import KnownCounts


def test_a_text_is_known_until_a_full_half_has_not_seen_it() -> None:
    known = KnownCounts(texts_max=2)
    assert known.get("a") is None
    known.put("a", 1)
    known.put("b", 2)
    known.put("c", 3)
    assert [known.get(text) for text in "abc"] == [1, 2, 3]
    for text in "defg":
        known.put(text, 4)
    assert [known.get(text) for text in "abc"] == [None, None, None]


def test_a_text_that_is_used_stays() -> None:
    known = KnownCounts(texts_max=2)
    known.put("instruction", 9)
    for number in range(50):
        known.put(f"message {number}", number)
        assert known.get("instruction") == 9


def test_no_more_than_two_halves_are_kept() -> None:
    known = KnownCounts(texts_max=10)
    for number in range(1000):
        known.put(f"message {number}", number)
    assert sum(known.get(f"message {number}") is not None for number in range(1000)) <= 20
