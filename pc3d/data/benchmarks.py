"""Benchmarks that take submissions: the ids they know classes by."""

from __future__ import annotations

from collections.abc import Sequence

from pc3d.data.lists import DATASETS, read_table
from pc3d.errors import ConfigError, explain

#: Benchmark -> the column of ``datasets/<name>/classes.tsv`` with its ids: NYU40, raw label ids, places in the list of classes.
ID_COLUMNS = {"scannetv2": "nyu40id", "scannet200": "id", "scannetpp": "semantic"}


def benchmark_ids(name: str) -> dict[str, int]:
    """Class name -> id of a benchmark's instance classes, in the order of labels. Raises ConfigError for an unknown one."""
    if name not in ID_COLUMNS:
        raise ConfigError(explain("unknown benchmark", got=repr(name), expected=f"one of {', '.join(ID_COLUMNS)}"))
    table = read_table(DATASETS / name / "classes.tsv", ("label", "name", ID_COLUMNS[name]))
    return {row["name"]: int(row[ID_COLUMNS[name]]) for row in table if row["label"] != "-1"}


def class_groups(classes: Sequence[str]) -> dict[str, str]:
    """Class name -> head, common or tail where these are the classes of ScanNet200; nothing for others."""
    table = read_table(DATASETS / "scannet200" / "classes.tsv", ("label", "name", "group"))
    groups = {row["name"]: row["group"] for row in table if row["label"] != "-1"}
    return groups if sorted(groups) == sorted(classes) else {}


def ids_of_classes(classes: Sequence[str]) -> dict[str, int]:
    """The ids of the benchmark that has exactly these classes. Raises ConfigError when none has."""
    for name in ID_COLUMNS:
        if tuple(ids := benchmark_ids(name)) == tuple(classes):
            return ids
    raise ConfigError(explain("no benchmark has these classes", got=", ".join(classes)[:200],
                              expected=f"the classes of {', '.join(ID_COLUMNS)}"))
