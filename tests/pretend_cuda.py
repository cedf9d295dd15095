"""A device that is called cuda:0 and is the CPU: its tensors and those of the CPU must not meet in an op, as on a GPU.

Ops of pc3d with a CUDA kernel run what ``kernels`` gives for them, the others their reference, as they do on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pc3d.ops._library import REFERENCES

CUDA = torch.device("cuda", 0)
MOVES = {"aten::_to_copy", "aten::copy_", "aten::to"}  # from one device to another
PICKS = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}  # indices may be of the CPU


class CudaTensor(Tensor):
    """A tensor of the CPU that says it is elsewhere. To the C++ side of torch it is a meta tensor, so that it needs no CUDA."""

    held: Tensor
    device = property(lambda self: CUDA)
    is_cuda, is_cpu, is_meta = property(lambda self: True), property(lambda self: False), property(lambda self: False)

    @staticmethod
    def __new__(cls, held: Tensor) -> CudaTensor:
        self = Tensor._make_wrapper_subclass(cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
                                             dtype=held.dtype, device="meta")
        self.held = held
        return self

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=CUDA)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor that has left pretend_cuda")


class _Device(TorchDispatchMode):
    def __init__(self, kernels: Callable[[str], Callable[..., Any] | None]) -> None:
        super().__init__()
        self.kernels = kernels

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [leaf for leaf in tensors if isinstance(leaf, CudaTensor)]
        here = [leaf for leaf in tensors if not isinstance(leaf, CudaTensor) and leaf.dim()]
        if there and here and name not in MOVES and not (name in PICKS and isinstance(args[0], CudaTensor)):
            raise RuntimeError(f"Expected all tensors to be on the same device: {func}, {[leaf.device for leaf in tensors]}")
        run = func
        if there and name.startswith("pc3d::"):
            run = self.kernels(name[6:])
            if run is None:
                with self:
                    return REFERENCES[name[6:]](*args, **kwargs)
        device = kwargs.get("device")
        to_cuda = bool(there) if device is None else torch.device(device).type != "cpu"
        kwargs |= {} if device is None else {"device": torch.device("cpu")}
        wrapped = {id(leaf.held): leaf for leaf in there}
        result = run(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))

        def wrap(value: Any) -> Any:
            if not isinstance(value, Tensor) or not to_cuda:
                return value
            if id(value) in wrapped:
                return wrapped[id(value)]
            return CudaTensor(value.clone() if any(value is leaf for leaf in here) else value)

        return tree_map(wrap, result)


def _unwrap(value: Any) -> Any:
    return value.held if isinstance(value, CudaTensor) else value


@contextmanager
def pretend_cuda(kernels: Callable[[str], Callable[..., Any] | None]) -> Iterator[None]:
    """While it lasts, "cuda:0" is a device. ``kernels`` gives for an op's name what runs on its CPU tensors, or None."""
    with mock.patch.object(torch.cuda, "_lazy_init"), _Device(kernels):
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            yield
        finally:
            torch._C._set_only_lift_cpu_tensors(False)
