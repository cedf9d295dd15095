import torch

from pc3d.nn.rsa import RelationBias, RelationSelfAttention, query_boxes


def test_box_encloses_the_superpoints_of_the_mask() -> None:
    xyz = torch.tensor([[0.0, 0, 0], [1, 2, 3], [5, 5, 5]])
    box = query_boxes(torch.tensor([[1.0, 2.0, -1.0]]), xyz, min_size=0.0)
    assert box.tolist() == [[0.5, 1.0, 1.5, 1.0, 2.0, 3.0]]


def test_empty_mask_has_the_box_of_its_likeliest_superpoint() -> None:
    xyz = torch.tensor([[0.0, 0, 0], [1, 2, 3]])
    logits = torch.tensor([[-4.0, -3.0]])
    assert query_boxes(logits, xyz, min_size=0.0).tolist() == [[1, 2, 3, 0, 0, 0]]
    torch.testing.assert_close(query_boxes(logits, xyz, min_size=0.05)[0, 3:], torch.full((3,), 0.05))


def test_bias_is_never_negative_and_teaches_only_its_projection() -> None:
    torch.manual_seed(0)
    module = RelationBias(num_heads=4)
    boxes = torch.rand(5, 6, requires_grad=True)
    bias = module(boxes)
    assert bias.shape == (4, 5, 5)
    assert (bias >= 0).all()
    bias.sum().backward()
    assert boxes.grad is None
    assert module.project.weight.grad is not None


def test_strong_relation_draws_all_attention() -> None:
    torch.manual_seed(0)
    module = RelationSelfAttention(8, 2)
    queries, position = torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    bias = torch.zeros(1, 2, 3, 3)
    bias[..., 1] = 1e4
    read = module(queries, position, bias)
    torch.testing.assert_close(read, module.out(module.value(queries[:, 1:2])).expand(1, 3, 8))


def test_no_relation_is_plain_attention() -> None:
    torch.manual_seed(0)
    module = RelationSelfAttention(8, 2)
    queries, position = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    torch.testing.assert_close(module(queries, position, None), module(queries, position, torch.zeros(2, 2, 3, 3)))
