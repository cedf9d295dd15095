from __future__ import annotations

import pytest

from pc3d.cli.console import DEFAULT_MODEL, Counter, print_json, seconds_line, status, table


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


def test_the_default_network_is_the_engines() -> None:
    from pc3d.engine.segment import DEFAULT_MODEL as ENGINES

    assert DEFAULT_MODEL == ENGINES
