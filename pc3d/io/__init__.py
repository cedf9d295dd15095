"""Files in and out: one module per format, all of them keeping row i as row i.

``read`` gives a PointCloud whatever the format, or an error that says what is wrong with the file and where.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from pc3d.errors import DataError, FormatError, explain
from pc3d.io.columns import keep_finite
from pc3d.io.files import check_file
from pc3d.io.frames import Frames, read_frames, write_sens
from pc3d.io.instances import read_instances, write_instances
from pc3d.io.las import read_las, write_las
from pc3d.io.npz import read_npy, read_npz, write_npy, write_npz
from pc3d.io.ply import read_ply, write_ply
from pc3d.io.result import own_columns, read_result, write_result
from pc3d.io.xyz import read_xyz, write_xyz
from pc3d.structures import PointCloud

__all__ = ["READERS", "WRITERS", "Frames", "read", "read_frames", "read_instances", "read_result", "write",
           "write_instances", "write_result", "write_sens"]

READERS: dict[str, Callable[[Path], PointCloud]] = {
    ".ply": read_ply, ".npz": read_npz, ".npy": read_npy, ".xyz": read_xyz, ".txt": read_xyz,
    ".las": read_las, ".laz": read_las,
}
WRITERS: dict[str, Callable[[PointCloud, Path], None]] = {
    ".ply": write_ply, ".npz": write_npz, ".npy": write_npy, ".xyz": write_xyz, ".txt": write_xyz,
    ".las": write_las, ".laz": write_las,
}


def read(path: str | Path, *, drop_nonfinite: bool = False) -> PointCloud:
    """Read a scan by its suffix (.ply .npz .npy .xyz .txt .las .laz); row i of the cloud is row i of the file.

    Of a painted ``instances.ply`` it is the scan as it was before; ``read_result`` gives what was found in it too.
    Raises FileError (missing, a folder, unreadable), FormatError (broken, empty, no points, non-finite coordinates, unknown
    suffix), BackendError (laspy missing), or DataError for what is no path. ``drop_nonfinite`` leaves out points with NaN or
    inf coordinates, with a warning.
    """
    if not isinstance(path, str | PathLike):
        raise DataError(explain("this is no path of a scan", got=type(path).__name__, expected="text or a Path",
                                do="Of an array (N, 3), pc3d.PointCloud.from_world makes a scan."))
    path = Path(path)
    check_file(path)
    cloud = own_columns(_by_suffix(READERS, path)(path))
    return keep_finite(cloud, source=path, drop=drop_nonfinite)


def write(cloud: PointCloud, path: str | Path) -> None:
    """Write a scan by the suffix of ``path``, all columns with it; the file appears whole or not at all.

    Raises FileError (cannot be written), FormatError (unknown suffix) or DataError (a column the format cannot hold).
    """
    path = Path(path)
    _by_suffix(WRITERS, path)(cloud, path)


def _by_suffix(table: dict[str, Callable], path: Path) -> Callable:
    suffix = path.suffix.lower()
    if suffix not in table:
        raise FormatError(explain("unknown file type", where=path, got=repr(suffix), expected=f"one of {', '.join(table)}",
                                  do="Of another format, save the scan as .ply first, with CloudCompare or MeshLab; of a table "
                                     "with commas, name it .txt." if table is READERS else None))
    return table[suffix]
