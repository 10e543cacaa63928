from pathlib import Path

from loadtests.probes.profiling import summarise, summary_text, without_line_number

MAIN = 'thread (0x7f): "MainThread"'
STACKS = [
    f"{MAIN};run (loop.py:10);handle (app.py:5) 60\n",
    f"{MAIN};run (loop.py:12);handle (app.py:9);send (net.py:3) 30\n",
    f"{MAIN};run (loop.py:12);run (loop.py:12) 10\n",
    'thread (0x7e): "pong";recv (connection.py:1) 500\n',
]


def test_lines_of_a_function_add_up_and_recursion_counts_once() -> None:
    own, inclusive = summarise(STACKS)
    assert {share.function: share.percent for share in own} == {
        "handle (app.py)": 60,
        "send (net.py)": 30,
        "run (loop.py)": 10,
    }
    assert {share.function: share.percent for share in inclusive} == {
        "run (loop.py)": 100,
        "handle (app.py)": 90,
        "send (net.py)": 30,
    }
    assert own[0].function == "handle (app.py)"


def test_frames_without_a_place_stay_as_they_are() -> None:
    assert without_line_number("[idle]") == "[idle]"
    assert without_line_number("run (loop.py)") == "run (loop.py)"
    assert without_line_number("<lambda> (a b.py:7)") == "<lambda> (a b.py)"


def test_the_summary_leaves_other_threads_out(tmp_path: Path) -> None:
    path = tmp_path / "stacks.collapsed"
    path.write_text("".join(STACKS))
    text = summary_text(path)
    assert "60.0 %  handle (app.py)" in text
    assert "recv" not in text
