"""pc3d: a scan goes in, object instances on its own points come out.

Heavy modules load on first use: ``import pc3d`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "read": "pc3d.io",
    "write": "pc3d.io",
    "PointCloud": "pc3d.structures",
    "Instances": "pc3d.structures",
    "load_model": "pc3d.models",
    "Segmenter": "pc3d.engine",
    "segment": "pc3d.engine",
}

__all__ = [*_EXPORTS, "__version__"]

if TYPE_CHECKING:
    from pc3d.engine import Segmenter as Segmenter
    from pc3d.engine.segment import segment as segment
    from pc3d.io import read as read
    from pc3d.io import write as write
    from pc3d.models import load_model as load_model
    from pc3d.structures import Instances as Instances
    from pc3d.structures import PointCloud as PointCloud


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'pc3d' has no attribute {name!r}; it exports {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
