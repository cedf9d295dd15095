from __future__ import annotations

from pathlib import Path

import pytest

from pc3d.cli.console import output_folder, print_json, result_in, seconds_line, status, table
from pc3d.errors import FileError, FormatError
from pc3d.progress import Counter


def test_numbers_go_to_the_right_and_words_to_the_left() -> None:
    assert table(["name", "count"], [["a", "5"], ["bcdef", "1,234"]]).splitlines() == [
        "  name   count", "  -----  -----", "  a          5", "  bcdef  1,234"]


def test_a_table_without_rows_is_a_header() -> None:
    assert len(table(["a"], []).splitlines()) == 2


def test_stages_come_with_their_sum() -> None:
    assert seconds_line({"reading": 0.5, "network": 1.25}) == "seconds: reading 0.50, network 1.25; 1.75 in all"


def test_json_never_holds_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"a": float("nan")})


def test_work_is_announced_on_stderr_so_that_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    with status("reading"):
        pass
    counter = Counter("rooms", every=3600)
    counter(1, 2)
    counter(2, 2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[0] == "reading ..."
    assert shown.err.splitlines()[1].startswith("rooms: 2/2 after")


def test_an_output_folder_is_made_or_refused(tmp_path: Path) -> None:
    assert output_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="this is a file; expected a folder"):
        output_folder(tmp_path / "file")


def test_an_output_file_is_refused_by_its_name(tmp_path: Path) -> None:
    with result_in(tmp_path / "new" / "a.PLY", (".ply", ".npz")):
        assert (tmp_path / "new").is_dir()
    words = r"x\.obj: unknown file type; got '\.obj'; expected one of \.ply, \.npz"
    with pytest.raises(FormatError, match=words), result_in(tmp_path / "x.obj", (".ply", ".npz")):
        pass
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(FileError, match="this is a folder"), result_in(tmp_path / "folder.ply", (".ply",)):
        pass
