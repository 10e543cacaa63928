"""Files of people: CSV and JSON lines, torn, foreign and hostile ones too."""

import stat
from pathlib import Path

import pytest

from deploy.commands.people_files import PeopleWriter, file_digest, read_people
from deploy.errors import Refused

FIELDS = ("entry_id", "email", "note")


def row(number: int, note: str = "") -> dict[str, str]:
    return {"entry_id": f"id{number}", "email": f"p{number}@example.com", "note": note}


def rows_of(path: Path) -> list[dict[str, str]]:
    with read_people(path) as rows:
        return list(rows)


@pytest.mark.parametrize("name", ["people.csv", "people.jsonl"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = [row(1), row(2, 'a "note", with 逗号')]
    with PeopleWriter(path, FIELDS, resume=False) as writer:
        for each in rows:
            writer.write(each)
    assert rows_of(path) == rows
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["people.csv", "people.jsonl"])
def test_torn_file_is_gone_on_with(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with PeopleWriter(path, FIELDS, resume=True) as writer:
        for number in range(3):
            writer.write(row(number))
    content = path.read_bytes()
    path.write_bytes(content[:-9])  # as a full disk leaves it
    with PeopleWriter(path, FIELDS, resume=True) as writer:
        assert writer.written == {"id0", "id1"}
        writer.write(row(2))
        assert writer.rows == 3
    assert path.read_bytes() == content


def test_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("mine")
    with pytest.raises(Refused, match="cannot be written"):
        PeopleWriter(path, FIELDS, resume=False).__enter__()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_formulas_are_marked_as_text_in_csv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "people.csv"
    with PeopleWriter(path, FIELDS, resume=False) as writer:
        writer.write(row(1, text))
    assert f",'{text}" in path.read_text()
    assert rows_of(path) == [row(1, text)]


@pytest.mark.parametrize("text", ["'quoted", "'=1", "''", "'", "o'brien", "-a@example.com"])
def test_marks_are_taken_away_again_and_nothing_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "people.csv"
    with PeopleWriter(path, FIELDS, resume=False) as writer:
        writer.write({**row(1, text), "email": text})
    assert rows_of(path) == [{**row(1, text), "email": text}]


def test_spreadsheets_mark_of_utf8_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(b"\xef\xbb\xbfemail\nada@example.com\n")
    assert rows_of(path) == [{"email": "ada@example.com"}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.csv", b"email,note\na@example.com\n", "Line 2"),
        ("p.csv", b"email\na@example.com,b\n", "Line 2"),
        ("p.csv", b"email\n\xff\n", "UTF-8"),
        ("p.jsonl", b'{"email": "a"}\n{', "Line 2"),
        ("p.jsonl", b"[]\n", "Line 1"),
    ],
)
def test_files_that_are_none_are_told(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Refused, match=said):
        rows_of(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="neither"):
        file_digest(tmp_path / "people.xlsx")
    with pytest.raises(Refused, match="cannot be read"):
        file_digest(tmp_path / "none.csv")


def test_empty_files_have_no_rows(tmp_path: Path) -> None:
    for name in ("people.csv", "people.jsonl"):
        (tmp_path / name).touch()
        assert rows_of(tmp_path / name) == []
