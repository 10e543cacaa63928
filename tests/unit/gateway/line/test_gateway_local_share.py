from gateway.engines.replica_record import Replica
from gateway.line.local_share import next_ticket, replica_with_room
from gateway.line.ticket import Passage, SlotAsk, Ticket


def replica(name: str, slots: int) -> Replica:
    return Replica(model="m", replica_id=name, url="http://x:1", state="running", slots=slots)


def ticket(account: str, number: int, concurrent: int = 9) -> Ticket:
    ask = SlotAsk(account, 1.0, concurrent, 9)
    return Ticket(f"{number}", ask, Passage(), now=0.0, wait_s_max=1.0)


def test_a_share_is_the_slots_divided_by_the_living_workers() -> None:
    replicas = [replica("a", 10)]
    assert replica_with_room(replicas, {"a": 4}, 2, None) is replicas[0]
    assert replica_with_room(replicas, {"a": 5}, 2, None) is None
    assert replica_with_room(replicas, {}, 2, "a") is None


def test_each_worker_may_use_one_slot_however_many_there_are() -> None:
    assert replica_with_room([replica("a", 2)], {}, 8, None) is not None


def test_the_account_that_runs_least_is_next_and_its_first_ticket() -> None:
    waiting = [ticket("x", 1), ticket("y", 2), ticket("y", 3)]
    assert next_ticket(waiting, {"x": 1}, 1) is waiting[1]
    assert next_ticket(waiting, {}, 1) is waiting[0]


def test_an_account_at_its_concurrency_is_passed_over() -> None:
    waiting = [ticket("x", 1, concurrent=1), ticket("y", 2)]
    assert next_ticket(waiting, {"x": 1, "y": 5}, 1) is waiting[1]
    assert next_ticket(waiting[:1], {"x": 1}, 1) is None


def test_workers_share_an_accounts_concurrency_too() -> None:
    waiting = [ticket("x", 1, concurrent=4)]
    assert next_ticket(waiting, {"x": 1}, 2) is waiting[0]
    assert next_ticket(waiting, {"x": 2}, 2) is None
    assert next_ticket(waiting, {}, 9) is waiting[0], "each may run one"
