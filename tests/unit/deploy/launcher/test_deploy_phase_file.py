"""What serving writes and the launcher reads while it is being written."""

from pathlib import Path

from deploy.launcher.phase_file import PhaseReader, PhaseWriter


def test_steps_are_read_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    reader, writer = PhaseReader(path), PhaseWriter(path)
    assert list(reader.read()) == []
    writer.phase("  1.0 s  one")
    writer.phase("two")
    assert list(reader.read()) == ["1.0 s  one", "two"]
    writer.phase("three")
    assert list(reader.read()) == ["three"]
    assert list(reader.read()) == []


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    reader = PhaseReader(path)
    path.write_text('{"phase": "one"}\n{"pha')
    assert list(reader.read()) == ["one"]
    with path.open("a") as file:
        file.write('se": "two"}\n')
    assert list(reader.read()) == ["two"]


def test_error_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    reader, writer = PhaseReader(path), PhaseWriter(path)
    writer.phase("one")
    writer.error("no weights")
    assert list(reader.read()) == ["one"]
    assert reader.error == "no weights"


def test_lines_of_an_earlier_run_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    PhaseWriter(path).error("old")
    reader = PhaseReader(path)
    assert list(reader.read()) == []
    assert reader.error == ""
