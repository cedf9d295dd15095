from __future__ import annotations

import io

import pytest

from pc3d.progress import Counter, track


def test_every_item_comes_through_and_the_last_line_says_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([3, 1, 2], "scans", every=3600)) == [3, 1, 2]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "scans: 3/3 after 0 s\n"


def test_work_of_unknown_length_says_how_much_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(iter("ab"), "frames", every=0))
    assert capsys.readouterr().err.splitlines() == ["frames: 1 after 0 s", "frames: 2 after 0 s"]


def test_a_terminal_gets_a_bar_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    counter = Counter("rooms")
    counter(1, 2)
    counter(2, 2)
    assert terminal.getvalue() == f"\rrooms: 1/2 after 0 s [{'#' * 15}{'.' * 15}]\rrooms: 2/2 after 0 s [{'#' * 30}]\n"
