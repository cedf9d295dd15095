import numpy as np
import pytest
import torch
from torch import Tensor

from pc3d.config import ModelConfig
from pc3d.models import Proposals, split_at_gaps, to_instances
from pc3d.models.proposals import agreed, best_of, overlaps
from pc3d.structures import Instances, LayerOutput, Relation3DOutput

CONFIG = ModelConfig(classes=("chair", "table")).with_overrides(["inference.min_points=0"])
SIZES = (5, 1, 1, 3)


IDS = torch.arange(4).repeat_interleave(torch.tensor(SIZES))    # superpoints of 10 points


def read(masks: list[list[float]], classes: list[list[float]], *overrides: str, scores: list[float] | None = None) -> Instances:
    """Instances of the second scan for mask logits (K, 4) and class probabilities (K, 2)."""
    probability = torch.tensor([[*row, 1 - sum(row)] for row in classes]).log()
    score = torch.tensor(scores or [0.0] * len(masks))
    layer = LayerOutput(torch.stack([probability, probability]), torch.stack([score, score]), torch.zeros(2, len(masks), 3),
                        [torch.zeros(len(masks), 1), torch.tensor(masks)])
    config = CONFIG.with_overrides(overrides)
    return to_instances([Proposals.of(Relation3DOutput([layer], []), 1, config.inference)], IDS, config)


def test_score_is_class_probability_times_mean_probability_inside_the_mask() -> None:
    instances = read([[2.0, 1.0, -1.0, -1.0]], [[0.7, 0.2]])
    inside = float(torch.tensor([2.0, 1.0]).sigmoid().mean())
    assert instances.labels.tolist() == [0, 1]
    np.testing.assert_allclose(instances.scores, [0.7 * inside, 0.2 * inside], rtol=1e-5)
    np.testing.assert_allclose(instances.evidence["mask_score"], [inside, inside], rtol=1e-5)
    np.testing.assert_allclose(instances.evidence["class_score"], [0.7, 0.2], rtol=1e-5)


def test_masks_are_on_the_points_of_their_own_scan() -> None:
    instances = read([[-1.0, 1.0, -1.0, 1.0]], [[0.7, 0.2]])
    assert instances.point_masks[0].astype(int).tolist() == [0, 0, 0, 0, 0, 1, 0, 1, 1, 1]


def test_overlap_counts_points_or_superpoints_as_asked() -> None:
    masks = [[1.0, 1.0, 1.0, -1.0], [1.0, -1.0, -1.0, -1.0]]  # IoU 1/3 in superpoints, 5/7 in points
    classes = [[0.9, 0.0], [0.8, 0.0]]
    assert len(read(masks, classes, "inference.nms_iou=0.5", "inference.nms_area=superpoints", "inference.topk=2")) == 2
    points = read(masks, classes, "inference.nms_iou=0.5", "inference.nms_area=points", "inference.topk=1")
    assert points.segment_masks.astype(int).tolist() == [[1, 1, 1, 0]]
    assert len(read(masks, classes, "inference.nms_iou=0.5", "inference.nms_area=points", "inference.score_threshold=0.1")) == 1


def test_of_two_masks_that_overlap_the_better_one_stays() -> None:
    masks, classes = [[0.05, 0.05, 0.05, -1.0], [5.0, 5.0, 5.0, -1.0]], [[0.9, 0.0], [0.8, 0.0]]
    by_score, by_class = (read(masks, classes, f"inference.nms_order={order}", "inference.topk=1")
                          for order in ("score", "class"))
    assert by_score.evidence["class_score"].tolist() == pytest.approx([0.8])
    assert by_class.evidence["class_score"].tolist() == pytest.approx([0.9])


def test_topk_takes_the_best_pairs_and_leaves_the_config_alone() -> None:
    masks, classes = [[1.0, 1, -1, -1], [-1.0, -1, 1, 1]], [[0.5, 0.3], [0.1, 0.6]]
    before = CONFIG.model_dump()
    assert read(masks, classes, "inference.topk=3").labels.tolist() == [1, 0, 1]
    assert read(masks, classes, "inference.topk=99").labels.tolist() == [1, 0, 1, 0]
    assert CONFIG.model_dump() == before


def test_small_and_empty_masks_are_dropped() -> None:
    masks, classes = [[-1.0, 1, 1, -1], [-1.0, -1, -1, -1], [-1.0, -1, -1, 1]], [[0.9, 0.0]] * 3
    assert [int(n) for n in read(masks, classes, "inference.min_points=2", "inference.score_threshold=0.1").num_points] == [3]


def test_score_head_and_rounding_are_options() -> None:
    plain = read([[2.0, 1, -1, -1]], [[0.7, 0.2]])
    headed = read([[2.0, 1, -1, -1]], [[0.7, 0.2]], "inference.score_head=true", scores=[0.5])
    np.testing.assert_allclose(headed.scores, plain.scores / 2, rtol=1e-6)
    assert read([[2.0, 1, -1, -1]], [[0.7, 0.2]], "inference.score_decimals=1").scores.tolist() == pytest.approx([0.6, 0.2])


def test_best_instance_comes_first() -> None:
    instances = read([[0.1, -1, -1, -1], [-1.0, 5, -1, -1]], [[0.9, 0.0], [0.8, 0.0]], "inference.score_threshold=0.01")
    assert instances.labels.tolist() == [0, 0]
    assert instances.scores[0] > instances.scores[1]
    assert instances.segment_masks[0].tolist() == [False, True, False, False]


def greedy(masks: Tensor, scores: Tensor, weights: Tensor, max_iou: float) -> list[int]:
    kept: list[int] = []
    for row in scores.argsort(descending=True, stable=True).tolist():
        overlaps = [((masks[row] & masks[k]) * weights).sum() / ((masks[row] | masks[k]) * weights).sum() for k in kept]
        if all(float(iou) <= max_iou for iou in overlaps):
            kept.append(row)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_nms_keeps_what_the_greedy_loop_keeps(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    masks, scores = torch.rand(30, 6, generator=g) < 0.6, torch.rand(30, generator=g)
    masks[:, 0] = True
    weights = torch.randint(1, 50, (6,), generator=g)
    assert best_of(overlaps(masks, weights), scores, 0.6).tolist() == greedy(masks, scores, weights, 0.6)


MANY = CONFIG.with_overrides(["inference.nms_iou=0.4"])


def propose(masks: list[list[float]], classes: list[list[float]], quality: list[float] | None = None) -> Proposals:
    """Proposals of one view, from mask probabilities (K, 4)."""
    return Proposals(torch.tensor(masks).logit(), torch.tensor(classes), torch.tensor(quality or [1.0] * len(masks)))


def test_views_that_say_the_same_say_it_once() -> None:
    view = propose([[0.9, 0.8, 0.1, 0.1], [0.1, 0.2, 0.9, 0.9]], [[0.7, 0.2], [0.1, 0.6]])
    one, three = to_instances([view], IDS, MANY), to_instances([view] * 3, IDS, MANY)
    np.testing.assert_array_equal(three.segment_masks, one.segment_masks)
    np.testing.assert_array_equal(three.labels, one.labels)
    np.testing.assert_allclose(three.scores, one.scores, rtol=1e-5)


def test_views_agree_on_the_mean_weighted_by_worth() -> None:
    """Worth is class times mask times quality: 0.8 x 0.9 x 1 and 0.4 x 0.9 x 0.5, four to one."""
    first, second = propose([[0.9, 0.9, 0.1, 0.1]], [[0.8, 0.0]]), propose([[0.9, 0.9, 0.4, 0.1]], [[0.0, 0.4]], [0.5])
    [mask], [classes], [quality] = agreed([first, second], torch.tensor(SIZES), MANY.inference)
    torch.testing.assert_close(mask.sigmoid(), torch.tensor([0.9, 0.9, 0.8 * 0.1 + 0.2 * 0.4, 0.1]))
    torch.testing.assert_close(classes, torch.tensor([0.64, 0.08]))
    assert float(quality) == pytest.approx(0.9)


def test_what_one_view_alone_sees_counts_for_its_share() -> None:
    seen, nothing = propose([[0.9, 0.9, 0.1, 0.1]], [[0.8, 0.0]]), propose([[0.1, 0.1, 0.1, 0.9]], [[0.0, 0.5]])
    masks, classes, _ = agreed([seen, nothing, nothing, nothing], torch.tensor(SIZES), MANY.inference)
    assert (masks > 0).tolist() == [[False, False, False, True], [True, True, False, False]] or \
        (masks > 0).tolist() == [[True, True, False, False], [False, False, False, True]]
    shares = {int(row.argmax()): float(row.amax()) for row in classes}
    assert shares == pytest.approx({0: 0.8 / 4, 1: 0.5 * 3 / 4})


def test_views_of_nothing_give_nothing() -> None:
    empty = propose([[0.1] * 4] * 3, [[0.5, 0.4]] * 3)
    assert len(to_instances([empty, empty], IDS, MANY)) == 0


def test_a_mask_whose_parts_lie_apart_is_cut_and_its_score_shared_out() -> None:
    """Superpoints of 5, 1, 1 and 3 points at x = 0, 0.1, 0.2 and 5."""
    xyz = np.zeros((10, 3), np.float32)
    xyz[:, 0] = np.array([0, 0.1, 0.2, 5])[IDS]
    found = read([[2.0, 2.0, 2.0, 2.0], [2.0, 2.0, -2.0, -2.0]], [[0.9, 0.0], [0.0, 0.5]], "inference.score_threshold=0.1")
    cut = split_at_gaps(found, xyz, CONFIG.inference.model_copy(update={"split_gap": 1.0, "min_points": 2}))
    assert cut.segment_masks.astype(int).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    assert cut.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(cut.scores, found.scores[[0, 1, 0]] * [0.7, 1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(cut.evidence["class_score"], [0.9, 0.5, 0.9], rtol=1e-6)
    assert len(split_at_gaps(found[:0], xyz, CONFIG.inference.model_copy(update={"split_gap": 1.0}))) == 0
