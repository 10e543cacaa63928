from gateway.line.held_slots import HeldSlots


def corrections(args: list[str | int]) -> tuple[int, dict[str, float]]:
    """Number of the batch and what it corrects, from the arguments of a release of no slot."""
    batch, replicas, accounts, *flat = args
    assert replicas == 0
    assert len(flat) == 3 * int(accounts)
    return int(batch), {str(flat[i]): float(flat[i + 2]) for i in range(0, len(flat), 3)}


def test_a_batch_of_corrections_stays_the_same_until_it_is_answered() -> None:
    held = HeldSlots()
    held.correct("x", -5.0)
    assert corrections(held.next_release()) == (1, {"x": -5.0})
    held.correct("x", 1.0)
    held.correct("y", 2.0)
    held.release_failed()
    assert held.has_news
    assert corrections(held.next_release()) == (1, {"x": -5.0})
    held.release_answered()
    assert corrections(held.next_release()) == (2, {"x": 1.0, "y": 2.0})
    held.release_answered()
    assert not held.has_news
    assert corrections(held.next_release()) == (0, {})


def test_one_call_corrects_the_charges_of_500_accounts_and_the_next_the_others() -> None:
    held = HeldSlots()
    for number in range(600):
        held.correct(f"acct{number}", 1.0)
    found = {}
    while held.has_news:
        batch, corrected = corrections(held.next_release())
        held.release_answered()
        found[batch] = len(corrected)
    assert found == {1: 500, 2: 100}


def test_acknowledgements_of_a_call_under_way_go_with_a_heartbeat_too() -> None:
    held = HeldSlots()
    held.acknowledge("one")
    assert held.next_release()[-1] == "one"
    held.acknowledge("two")
    assert held.acknowledgements() == ["two", "one"]
    held.release_answered()
    assert held.acknowledgements() == []
