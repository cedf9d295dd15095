from dataclasses import replace

import torch

from pc3d.config import DecoderConfig
from pc3d.nn.attention import Tokens
from pc3d.nn.clsr import CLSR


def tokens(count: int, seed: int) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    content, position, xyz = (torch.randn(count, n, generator=generator) for n in (16, 16, 3))
    return Tokens(content, position, xyz, [count])


def make() -> CLSR:
    torch.manual_seed(0)
    clsr = CLSR(DecoderConfig(d_model=16, num_heads=2, d_ffn=32))
    for parameter in clsr.parameters():
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
    return clsr


def test_only_the_content_of_superpoints_changes() -> None:
    superpoints = tokens(9, 1)
    refined = make()(superpoints, tokens(4, 2))
    assert refined.content.shape == (9, 16)
    assert refined.xyz is superpoints.xyz
    assert refined.position is superpoints.position
    assert not torch.equal(refined.content, superpoints.content)


def test_every_query_reaches_every_superpoint() -> None:
    clsr, superpoints, queries = make(), tokens(9, 1), tokens(4, 2)
    changed = replace(queries, content=queries.content + torch.eye(4, 16))
    difference = (clsr(superpoints, queries).content - clsr(superpoints, changed).content).abs().sum(dim=1)
    assert (difference > 0).all()
