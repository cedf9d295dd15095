"""Instance AP of a network on a dataset, on one process or shared out among several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pc3d.config import ExperimentConfig
from pc3d.data import ScanDataset
from pc3d.engine.distributed import Processes, processes
from pc3d.engine.run import check_classes
from pc3d.engine.segment import Segmenter
from pc3d.metrics import InstanceAP, InstanceAPResult, merge_folds
from pc3d.models import Relation3D, load_model
from pc3d.progress import track
from pc3d.structures import Instances

#: What is done with the instances found in a scan of this name, besides scoring them.
Keep = Callable[[str, Instances], None]


def evaluate(config: ExperimentConfig, checkpoint: str | Path, *, device: str = "auto",
             keep: Keep | None = None) -> InstanceAPResult:
    """Evaluate a checkpoint on the validation split of ``config.data`` by the ScanNet protocol.

    The checkpoint brings its network; of ``config.model`` only ``inference`` is used. Where its path holds ``{split}``,
    each split that ``data.val_split`` names is predicted by its own network, and the scans of all count as one data set:
    the 6-fold protocol of S3DIS. ``keep`` gets what was found in each scan, also in those that have no truth.
    """
    with processes(device) as group:
        folds = config.data.val_split.split(",") if "{split}" in str(checkpoint) else [config.data.val_split]
        scored = []
        for split in (fold.strip() for fold in folds):
            model = load_model(str(checkpoint).replace("{split}", split))
            model.config = model.config.model_copy(update={"inference": config.model.inference})
            dataset = ScanDataset(config.data.root, split, labelled=keep is None)
            scored += score_scans(model, dataset, group, keep=keep)
    return merge_folds(scored).result()


def evaluate_model(model: Relation3D, dataset: ScanDataset, group: Processes, *, limit: int | None = None) -> InstanceAPResult:
    """Evaluate a network on (the first ``limit``) scans of a dataset whose classes must be the network's."""
    return merge_folds(score_scans(model, dataset, group, limit=limit)).result()


def score_scans(model: Relation3D, dataset: ScanDataset, group: Processes, *, limit: int | None = None,
                keep: Keep | None = None) -> list[InstanceAP]:
    """What each scan counts for in the metric, in the order of the dataset; every process takes its share of the scans."""
    check_classes(model.config.classes, dataset, whose="the network")
    segmenter = Segmenter(model, str(group.device))
    mine = group.share(range(min(len(dataset), limit or len(dataset))))
    found = {index: _score(segmenter, dataset, index, keep) for index in (track(mine, "evaluate") if group.first else mine)}
    together = {index: metric for part in group.gather(found) for index, metric in part.items()}
    return [together[index] for index in sorted(together)]


def _score(segmenter: Segmenter, dataset: ScanDataset, index: int, keep: Keep | None) -> InstanceAP:
    cloud = dataset[index]
    found, metric = segmenter(cloud).instances, InstanceAP(dataset.classes)
    if cloud.labels is not None and cloud.instances is not None:
        metric.add(cloud.labels, cloud.instances, found)
    if keep is not None:
        keep(dataset.scene(index), found)
    return metric
