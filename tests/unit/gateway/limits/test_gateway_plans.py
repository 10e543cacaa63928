import os
from pathlib import Path

import pytest

from gateway.errors import FileUnusable
from gateway.limits.plans import Plans, read_plans

GOOD = """\
free:
  requests_per_minute: 60
  tokens_per_minute: 40_000
  tokens_per_day: 500_000
  concurrent_requests: 4
  waiting_requests: 16
  weight: 1
  output_tokens_max: 4096
  output_tokens_default: 1024
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plans.yaml"
    path.write_text(text)
    return path


def test_the_packaged_plans_are_good_and_rise() -> None:
    free, plus, staff = (Plans().plan_for(name) for name in ("free", "plus", "staff"))
    assert (free.weight, plus.weight, staff.weight) == (1, 2, 4)
    assert free.requests_per_minute < plus.requests_per_minute < staff.requests_per_minute
    assert staff.tokens_per_day is None
    assert free.allows("any/model:1")


def test_models_are_patterns(tmp_path: Path) -> None:
    plans = Plans(write(tmp_path, GOOD + "  models: ['qwen-*', exact]\n"))
    allowed = [plans.plan_for("free").allows(m) for m in ("qwen-7b", "exact", "exacter", "Qwen-7b")]
    assert allowed == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (GOOD.replace("60", "sixty"), 2, "'free', requests_per_minute: Input should be a valid"),
        (GOOD.replace(" 60", " '60'"), 2, "requests_per_minute"),
        (GOOD.replace(" 60", " 0"), 2, "greater than or equal to 1"),
        (GOOD.replace(" 60", " 60.5"), 2, "requests_per_minute"),
        (GOOD.replace(" 60", " true"), 2, "requests_per_minute"),
        (GOOD.replace(" 60", " [60]"), 2, "requests_per_minute"),
        (GOOD.replace(" 60", ""), 2, "requests_per_minute"),
        (GOOD.replace("40_000", "50_000_001"), 3, "tokens_per_minute"),
        (GOOD.replace("weight: 1", "weight: .nan"), 7, "weight"),
        (GOOD.replace("weight: 1", "weight: 0"), 7, "greater than 0"),
        (GOOD.replace("4096", "512"), 9, "must be at most output_tokens_max, 512"),
        (GOOD.replace("waiting", "wating"), 6, "unknown field 'wating_requests'"),
        (GOOD.replace("  weight: 1\n", ""), 1, "'free' lacks weight"),
        (GOOD + "  weight: 2\n", 10, "'weight' stands here a second time"),
        (GOOD + GOOD, 10, "'free' stands here a second time"),
        (GOOD + "  models: []\n", 10, "models"),
        (GOOD + "  models: [7]\n", 10, "models"),
        (GOOD + "  name: gold\n", 10, "stands above"),
        (GOOD + "  <<: {weight: 2}\n", 10, "unknown field '<<'"),
        (GOOD + "Gold Plan: {}\n", 10, "no plan's name"),
        (GOOD + "gold:\n", 10, "the fields of 'gold' must stand here"),
        (GOOD + "gold: 7\n", 10, "the fields of 'gold' must stand here"),
        (GOOD + "[a]: {}\n", 10, "must be plain words"),
        (GOOD + "  models: !!python/object:os.system x\n", 10, "cannot be read"),
        (GOOD + "\tmodels: x\n", 10, "cannot start any token"),
        (GOOD.replace("free", "plus"), 1, "there must be a plan named 'free'"),
        ("", 1, "plan names must stand here"),
        ("- free\n", 1, "plan names must stand here"),
    ],
)
def test_each_mistake_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(FileUnusable) as error:
        read_plans(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert told in str(error.value)


@pytest.mark.parametrize(
    "content", [b"free: \xff", b"a: &a [*a]\n", b"[" * 5_000, b"x" * 1_100_000, b"\x00", None]
)
def test_what_is_no_text_of_plans_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "plans.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileUnusable, match=r"plans\.yaml"):
        Plans(path)


def test_a_changed_file_is_taken_over(tmp_path: Path) -> None:
    plans = Plans(write(tmp_path, GOOD))
    plans.refresh()
    write(tmp_path, GOOD.replace("60", "6000"))
    plans.refresh()
    assert plans.plan_for("free").requests_per_minute == 6000


def test_a_replaced_file_of_the_same_size_and_time_is_taken_over(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    plans = Plans(path)
    other = tmp_path / "new.yaml"
    other.write_text(GOOD.replace("60", "61"))
    before = path.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)
    plans.refresh()
    assert plans.plan_for("free").requests_per_minute == 61


def test_a_broken_file_is_refused_with_its_line_and_the_old_plans_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, GOOD)
    plans = Plans(path)
    write(tmp_path, GOOD.replace("weight: 1", "weight: much"))
    plans.refresh()
    plans.refresh()
    assert plans.plan_for("free").weight == 1
    printed = capsys.readouterr().out
    assert printed.count("plans_refused") == 1
    assert f"{path}:7" in printed
    path.unlink()
    plans.refresh()
    assert plans.plan_for("free").weight == 1
    write(tmp_path, GOOD.replace("weight: 1", "weight: 3"))
    plans.refresh()
    assert plans.plan_for("free").weight == 3


def test_an_unknown_plan_gets_free_and_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = Plans(write(tmp_path, GOOD))
    assert [plans.plan_for("gone").name for _ in range(3)] == ["free"] * 3
    assert capsys.readouterr().out.count("plan_missing") == 1
