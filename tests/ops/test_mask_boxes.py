import pytest
import torch

from pc3d.errors import DataError
from pc3d.ops import mask_boxes
from pc3d.ops._library import has_kernel
from pc3d.ops.mask_boxes import _boxes_reference


@pytest.mark.skipif(not has_kernel("mask_boxes"), reason="the native library was not built")
@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("segments", [1, 7, 16, 33, 300])
def test_every_instruction_set_gives_the_reference(isa: str, dtype: torch.dtype, segments: int,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    g = torch.Generator().manual_seed(segments)
    logits, xyz = torch.randn(40, segments, generator=g).to(dtype) - 0.5, torch.randn(segments, 3, generator=g).to(dtype)
    logits[:5] -= 9   # empty masks
    logits[5] = -1    # an empty mask whose segments are equally likely
    logits[6] = 0     # 0 is outside
    assert torch.equal(mask_boxes(logits, xyz), _boxes_reference(logits, xyz))


def test_what_does_not_fit_is_named() -> None:
    for logits, xyz in ((torch.zeros(3, 0), torch.zeros(0, 3)), (torch.zeros(3, 4), torch.zeros(5, 3)),
                        (torch.zeros(4), torch.zeros(4, 3))):
        with pytest.raises(DataError, match="mask_boxes: logits and places do not fit"):
            mask_boxes(logits, xyz)
