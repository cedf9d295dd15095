from __future__ import annotations

import sys

import pytest

from pc3d import errors
from pc3d.errors import BackendError, explain, require_package


def test_a_message_says_where_what_got_expected_and_what_to_do() -> None:
    message = explain("row is short", where="a.xyz:7", got="2 numbers", expected="3", do="Repair the row.")
    assert message == "a.xyz:7: row is short; got 2 numbers; expected 3. Repair the row."
    assert explain("row is short") == "row is short"


def test_falsy_values_are_still_shown() -> None:
    assert explain("too few points", where=0, got=0, expected="") == "0: too few points; got 0; expected "


@pytest.mark.parametrize(("kind", "code"), [
    (errors.FileError, 3), (errors.FormatError, 3), (errors.DataError, 3),
    (errors.ConfigError, 4), (errors.CheckpointError, 4), (errors.BackendError, 5), (errors.Pc3dError, 1)])
def test_exit_codes_are_the_documented_ones(kind: type[errors.Pc3dError], code: int) -> None:
    assert kind.exit_code == code
    assert issubclass(kind, errors.Pc3dError)


def test_bad_values_are_value_errors_too() -> None:
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.ConfigError, ValueError)


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    with pytest.raises(errors.BackendError, match=r"drawing needs the package 'pc3d_no_such.*pip install -e '\.\[viz\]'"):
        require_package("pc3d_no_such_package.sub", extra="viz", purpose="drawing")
    require_package("json", extra="none", purpose="nothing")


def test_a_package_that_is_there_but_does_not_load_asks_for_system_libraries(tmp_path, monkeypatch):
    (tmp_path / "open3d.py").write_text("raise ImportError('libEGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    with pytest.raises(BackendError, match=r"does not load \(libEGL.*apt-get install"):
        require_package("open3d", extra="viz", purpose="drawing")
