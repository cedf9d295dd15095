"""Batch statistics over several processes are those of one process with all rows."""

import pytest
import torch
from torch import multiprocessing as mp

from pc3d.nn.norm import BatchNorm, synchronise_norms

ROWS = {"uneven": (5, 12), "one_without_rows": (0, 9), "one_row_in_all": (1, 0)}


def rows() -> torch.Tensor:
    return torch.randn(17, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 100


def run(norm: BatchNorm, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradient of the input, then gradients and buffers of the norm."""
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * torch.arange(1, 5)).square().sum().backward()
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var,
            norm.num_batches_tracked]


def work(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name, sizes in ROWS.items():
        norm = BatchNorm(4).double()
        synchronise_norms(torch.nn.Sequential(norm))
        torch.save(run(norm, rows()[:sum(sizes)].split(sizes)[rank]), f"{folder}/{name}{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("norms")
    mp.spawn(work, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("name", ROWS)
def test_two_processes_normalise_as_one_with_all_rows(name, folder):
    first, second = (torch.load(folder / f"{name}{rank}.pt") for rank in range(2))
    whole = run(BatchNorm(4).double(), rows()[:sum(ROWS[name])])
    both = [torch.cat([a, b]) for a, b in zip(first[:2], second[:2])] + [a + b for a, b in zip(first[2:4], second[2:4])]
    for ours, expected in zip([*both, *first[4:]], whole):
        torch.testing.assert_close(ours, expected)
    assert all(torch.equal(a, b) for a, b in zip(first[4:], second[4:]))
