from collections import Counter
from pathlib import Path

import pytest

from gateway.engines.pools import Pool, PoolView
from gateway.engines.replica_record import ModelRecord
from gateway.engines.routing import Routing, Target, read_routes
from gateway.errors import FileUnusable, NotFound, Unavailable

GOOD = """\
moss: moss-moon-003-sft
chat:
  stable: 95
  next: 5
"""
ACCOUNTS = [f"acct_{number:04d}" for number in range(4000)]


def write(folder: Path, text: str) -> Path:
    path = folder / "routes.yaml"
    path.write_text(text)
    return path


def routing(folder: Path, text: str) -> Routing:
    return Routing(write(folder, text))


def view(*models: str, dead: str = "") -> PoolView:
    """Models that are known and sleep, which is enough to be asked for."""
    asleep = ModelRecord(replicas_wanted=0)
    return PoolView({m: Pool(m, keeper=None if m == dead else asleep) for m in models})


def targets(found: Routing, name: str, seen: PoolView) -> dict[str, str]:
    return {account: found.target(name, account, seen) for account in ACCOUNTS}


def test_a_file_of_aliases_and_canaries_is_read(tmp_path: Path) -> None:
    assert read_routes(write(tmp_path, GOOD)) == {
        "moss": (Target("moss-moon-003-sft", 1),),
        "chat": (Target("stable", 95), Target("next", 5)),
    }


@pytest.mark.parametrize("text", ["", "# none yet\n", "{}\n"])
def test_a_file_without_routes_is_good(tmp_path: Path, text: str) -> None:
    assert read_routes(write(tmp_path, text)) == {}


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("- moss\n", 1, "names of models must stand here"),
        (GOOD + "chat: stable\n", 5, "'chat' stands here a second time"),
        (GOOD + "  stable: 1\n", 5, "'stable' stands here a second time"),
        (GOOD + "new: chat\n", 5, "'new' stands for 'chat', which has a route itself"),
        (GOOD + "new: {stable: 1, moss: 1}\n", 5, "'new' stands for 'moss'"),
        ("a: b\nb: a\n", 1, "'a' stands for 'b', which has a route itself"),
        ("a: a\n", 1, "'a' stands for itself"),
        ("a: ''\n", 1, "1 to 256 characters"),
        (f"{'a' * 257}: b\n", 1, "1 to 256 characters"),
        ("a: 7\n", 1, "'a' must be one model's name, or models with their weights"),
        ("a: [b, c]\n", 1, "'a' must be one model's name, or models with their weights"),
        ("a:\n", 1, "'a' must be one model's name, or models with their weights"),
        ("a: {}\n", 1, "'a' must have a model with a weight above 0"),
        ("a:\n  b: 0\n", 1, "'a' must have a model with a weight above 0"),
        ("a:\n  b: 1\n  c: -1\n", 3, "'a', c: the weight must be a number from 0 to"),
        ("a:\n  b: .nan\n", 2, "the weight must be a number"),
        ("a:\n  b: .inf\n", 2, "the weight must be a number"),
        ("a:\n  b: 1_000_001\n", 2, "the weight must be a number"),
        ("a:\n  b: true\n", 2, "the weight must be a number"),
        ("a:\n  b: 95%\n", 2, "the weight must be a number"),
        ("a:\n  b: {c: 1}\n", 2, "the weight must be a number"),
        ("a: !!python/name:os.system\n", 1, "cannot be read"),
    ],
)
def test_each_mistake_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(FileUnusable) as error:
        Routing(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert told in str(error.value)


def test_a_name_without_a_route_is_a_models_own(tmp_path: Path) -> None:
    assert Routing().target("stable", "acct", PoolView()) == "stable"
    assert routing(tmp_path, GOOD).target("next", "acct", PoolView()) == "next"


def test_each_target_gets_its_weights_part_of_the_accounts(tmp_path: Path) -> None:
    found = routing(tmp_path, "chat: {a: 70, b: 25, c: 5, d: 0}\n")
    counts = Counter(targets(found, "chat", view("a", "b", "c", "d")).values())
    # Three standard deviations of 4,000 draws are at most 87.
    assert counts["a"] == pytest.approx(2800, abs=87)
    assert counts["b"] == pytest.approx(1000, abs=83)
    assert counts["c"] == pytest.approx(200, abs=42)
    assert counts["d"] == 0


def test_a_changed_weight_moves_accounts_to_that_target_and_between_no_others(
    tmp_path: Path,
) -> None:
    seen = view("a", "b", "c")
    before = targets(routing(tmp_path, "chat: {a: 60, b: 30, c: 10}\n"), "chat", seen)
    after = targets(routing(tmp_path, "chat: {a: 60, b: 30, c: 20}\n"), "chat", seen)
    moved = {account for account in ACCOUNTS if before[account] != after[account]}
    assert moved
    assert {after[account] for account in moved} == {"c"}
    # c's part grows from 10/100 to 20/110.
    assert len(moved) == pytest.approx(4000 * (20 / 110 - 10 / 100), abs=60)


def test_weights_that_are_written_in_another_scale_move_nobody(tmp_path: Path) -> None:
    seen = view("a", "b")
    percent = targets(routing(tmp_path, "chat: {a: 95, b: 5}\n"), "chat", seen)
    parts = targets(routing(tmp_path, "chat: {b: 0.05, a: 0.95}\n"), "chat", seen)
    assert percent == parts


def test_two_canaries_try_different_accounts(tmp_path: Path) -> None:
    found = routing(tmp_path, "x: {a: 90, b: 10}\ny: {a: 90, b: 10}\n")
    seen = view("a", "b")
    tried = [
        {account for account, model in targets(found, name, seen).items() if model == "b"}
        for name in ("x", "y")
    ]
    assert len(tried[0] & tried[1]) < len(tried[0]) / 2


def test_a_target_that_is_not_served_is_passed_over_and_nobody_else_moves(tmp_path: Path) -> None:
    found = routing(tmp_path, "chat: {a: 40, b: 40, c: 20}\n")
    whole = targets(found, "chat", view("a", "b", "c"))
    without = targets(found, "chat", view("a", "b"))
    assert all(without[account] == model for account, model in whole.items() if model != "c")
    assert set(without.values()) == {"a", "b"}


def test_a_target_whose_serving_is_dead_is_passed_over_while_another_is_not(
    tmp_path: Path,
) -> None:
    found = routing(tmp_path, GOOD)
    seen = view("stable", "next", dead="stable")
    assert set(targets(found, "chat", seen).values()) == {"next"}
    assert found.target("chat", "acct", view("stable", dead="stable")) == "stable"


def test_a_name_none_of_whose_targets_is_served_is_no_model(tmp_path: Path) -> None:
    found = routing(tmp_path, GOOD)
    with pytest.raises(NotFound, match="'chat' does not exist") as error:
        found.target("chat", "acct", view("other"))
    assert error.value.code == "model_not_found"
    with pytest.raises(Unavailable):
        found.target("chat", "acct", PoolView())


def test_a_served_model_can_be_canaried_under_its_own_name(tmp_path: Path) -> None:
    found = routing(tmp_path, "stable: {stable: 50, next: 50}\n")
    assert set(targets(found, "stable", view("stable", "next")).values()) == {"stable", "next"}


def test_a_name_that_is_a_served_model_too_means_what_the_file_says(tmp_path: Path) -> None:
    found = routing(tmp_path, "old: new\n")
    assert found.target("old", "acct", view("old", "new")) == "new"
    with pytest.raises(NotFound):
        found.target("old", "acct", view("old"))


def test_a_changed_file_is_taken_over_and_a_broken_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = routing(tmp_path, GOOD)
    path = write(tmp_path, GOOD.replace("next: 5", "next: some"))
    found.refresh()
    assert found.by_name["chat"][1] == Target("next", 5)
    printed = capsys.readouterr().out
    assert "routes_refused" in printed
    assert f"{path}:4" in printed
    write(tmp_path, GOOD.replace("next: 5", "next: 50"))
    found.refresh()
    assert found.by_name["chat"][1] == Target("next", 50)
