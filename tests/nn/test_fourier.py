import torch

from pc3d.nn.fourier import FourierEncoding


def test_autocast_leaves_phases_of_many_turns_alone() -> None:
    torch.manual_seed(0)
    encode, x = FourierEncoding(3, 8), 10 * torch.rand(5, 3)
    plain = encode(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encode(x), plain)
