import pytest
import torch

from pc3d.config import LossConfig
from pc3d.losses import Criterion, LossSizes
from pc3d.structures import LayerOutput, Relation3DOutput, Targets

SUPERPOINTS, QUERIES, CLASSES = 10, 6, 3


def target(instances: int, seed: int = 0) -> Targets:
    g = torch.Generator().manual_seed(seed)
    owner = torch.arange(SUPERPOINTS) % (instances + 1) - 1
    masks = owner[None] == torch.arange(instances)[:, None]
    return Targets(torch.randint(0, CLASSES, (instances,), generator=g), masks, torch.randn(instances, 3, generator=g), owner)


def predictions(scans: int, layers: int = 2, seed: int = 1) -> Relation3DOutput:
    g = torch.Generator().manual_seed(seed)
    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g).requires_grad_()
    outputs = [LayerOutput(draw(scans, QUERIES, CLASSES + 1), draw(scans, QUERIES), draw(scans, QUERIES, 3),
                           [draw(QUERIES, SUPERPOINTS) for _ in range(scans)]) for _ in range(layers)]
    return Relation3DOutput(outputs, [[draw(SUPERPOINTS, 4) for _ in range(scans)]])


def perfect(targets: tuple[Targets, ...]) -> Relation3DOutput:
    logits = torch.full((len(targets), QUERIES, CLASSES + 1), -20.0)
    logits[..., -1] = 20.0
    centers, masks = torch.zeros(len(targets), QUERIES, 3), [torch.full((QUERIES, SUPERPOINTS), -20.0) for _ in targets]
    for b, t in enumerate(targets):
        for i in range(len(t.labels)):
            query = QUERIES - 1 - i
            logits[b, query] = -20.0
            logits[b, query, t.labels[i]] = 20.0
            centers[b, query] = t.centers[i]
            masks[b][query, t.masks[i]] = 20.0
    features = [torch.nn.functional.one_hot(t.superpoint_instances + 1, 8).float() * 2 - 1 for t in targets]
    layer = LayerOutput(logits, torch.ones(len(targets), QUERIES), centers, masks)
    return Relation3DOutput([layer], [features])


def test_perfect_prediction_in_any_query_order_costs_nothing_but_relations() -> None:
    targets = (target(3), target(2, seed=5))
    losses = Criterion(LossConfig(), CLASSES)(perfect(targets), targets)
    assert float(losses["loss"] - losses["contrastive"]) == pytest.approx(0, abs=1e-5)


def test_total_is_the_weighted_sum_of_its_terms() -> None:
    config = LossConfig()
    losses = Criterion(config, CLASSES)(predictions(2), (target(3), target(2, seed=5)))
    weights = {"cls": 0.5, "bce": 1.0, "dice": 1.0, "center": 0.5, "score": 0.5}
    total = sum(weights[name.split(".")[1]] * value for name, value in losses.items() if "." in name)
    torch.testing.assert_close(losses["loss"], total + losses["contrastive"])


@pytest.mark.parametrize("counts", [(0,), (0, 0), (0, 3)])
def test_scans_without_instances_train_without_nan(counts: tuple[int, ...]) -> None:
    output = predictions(len(counts))
    losses = Criterion(LossConfig(), CLASSES)(output, tuple(target(count) for count in counts))
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    for tensor in (output.layers[0].class_logits, *output.layers[0].masks, output.layers[0].centers, *output.memory[0]):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_summed_final_dice_counts_the_scans_of_the_batch() -> None:
    targets = (target(3), target(2, seed=5))
    mean = Criterion(LossConfig(), CLASSES)(predictions(2), targets)
    summed = Criterion(LossConfig(final_dice="sum"), CLASSES)(predictions(2), targets)
    torch.testing.assert_close(summed["layer1.dice"], 2 * mean["layer1.dice"])
    torch.testing.assert_close(summed["layer0.dice"], mean["layer0.dice"])


def test_only_good_masks_teach_the_score_head() -> None:
    targets = (target(3),)
    output = perfect(targets)
    losses = Criterion(LossConfig(), CLASSES)(output, targets)
    assert float(losses["layer0.score"]) == pytest.approx(0, abs=1e-5)  # IoU 1 and score 1
    bad = LayerOutput(output.layers[0].class_logits, output.layers[0].scores - 5, output.layers[0].centers,
                      [-output.layers[0].masks[0]])
    assert float(Criterion(LossConfig(), CLASSES)(Relation3DOutput([bad], output.memory), targets)["layer0.score"]) == 0


def test_relation_loss_can_be_switched_off() -> None:
    assert "contrastive" not in Criterion(LossConfig(contrastive=0), CLASSES)(predictions(1), (target(2),))


@pytest.mark.parametrize("overrides", [
    [], ["final_dice=sum", "contrastive_states=all", "unlabelled=one_instance", "semantic=1.0"]])
def test_losses_and_gradients_of_parts_add_up_to_those_of_the_whole_batch(overrides: list[str]) -> None:
    config = LossConfig().with_overrides(overrides)
    targets = (target(3), target(0), target(9, seed=5), target(2, seed=6))  # 9 instances are more than the queries
    whole = predictions(4)
    criterion = Criterion(config, CLASSES)
    losses = criterion(whole, targets)
    losses["loss"].backward()
    expected = [tensor.grad.clone() for tensor in leaves(whole) if tensor.grad is not None]
    again = predictions(4)
    sizes = LossSizes.of(targets, QUERIES, config)
    parts = [criterion(part_of(again, scans), tuple(targets[b] for b in scans), sizes) for scans in ((0,), (1, 2), (3,))]
    sum(part["loss"] for part in parts).backward()
    for name, value in losses.items():
        torch.testing.assert_close(sum(part[name] for part in parts), value)
    grads = [tensor.grad for tensor in leaves(again) if tensor.grad is not None]
    for ours, theirs in zip(grads, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def leaves(output: Relation3DOutput) -> list[torch.Tensor]:
    layers = [tensor for layer in output.layers for tensor in (layer.class_logits, layer.scores, layer.centers, *layer.masks)]
    return layers + output.memory[0]


def part_of(output: Relation3DOutput, scans: tuple[int, ...]) -> Relation3DOutput:
    """What the network would say of some of the scans alone."""
    rows = list(scans)
    layers = [LayerOutput(layer.class_logits[rows], layer.scores[rows], layer.centers[rows], [layer.masks[b] for b in rows])
              for layer in output.layers]
    return Relation3DOutput(layers, [[state[b] for b in rows] for state in output.memory])
