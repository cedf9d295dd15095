"""The tables of datasets/: one colour a class, the one pc3d draws it in, and all of them in the wheel."""

from __future__ import annotations

import runpy
from pathlib import Path
from unittest import mock

import pytest
from setuptools import Distribution

from pc3d.data.lists import DATASETS, read_split, read_table
from pc3d.errors import FileError, FormatError
from pc3d.structures.palette import class_colors

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["scannetv2", "scannet200", "scannetpp", "s3dis"])
def test_the_palette_is_the_one_that_pictures_are_drawn_in(name):
    rows = [row for row in read_table(DATASETS / name / "classes.tsv", ("label", "name", "color")) if row["label"] != "-1"]
    assert [row["label"] for row in rows] == [str(label) for label in range(len(rows))]
    colors = class_colors([row["name"] for row in rows])
    assert [row["color"] for row in rows] == ["#%02x%02x%02x" % tuple(color.tolist()) for color in colors]  # noqa: UP031
    assert (DATASETS / name / "PREPARE.md").is_file()


def test_the_tables_go_into_a_wheel(tmp_path):
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    command = setup.call_args.kwargs["cmdclass"]["build_py"](Distribution({"packages": []}))
    command.ensure_finalized()
    command.build_lib = str(tmp_path)
    command.run()
    built = {path.relative_to(tmp_path / "pc3d/datasets").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    kept = [*DATASETS.rglob("*.tsv"), *DATASETS.rglob("*.txt")]
    assert built == {path.relative_to(DATASETS).as_posix() for path in kept}
    assert "scannet200/classes.tsv" in built


def test_a_broken_table_or_list_names_its_row(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("label\tname\n1\ta\n2\n")
    with pytest.raises(FormatError, match=r"a\.tsv:3"):
        read_table(path, ("label", "name"))
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(FormatError, match="not text"):
        read_table(path, ("label",))
    for reader in (lambda: read_table(tmp_path / "none", ()), lambda: read_split(tmp_path / "none")):
        with pytest.raises(FileError, match="cannot be read"):
            reader()
