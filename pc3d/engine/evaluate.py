"""Instance AP of a network on a dataset, on one process or shared out among several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pc3d.config import ExperimentConfig
from pc3d.data import ScanDataset
from pc3d.data.s3dis import CLASSES as S3DIS_CLASSES
from pc3d.data.scans import counted_points, read_classes
from pc3d.engine.distributed import Processes, processes
from pc3d.engine.run import check_classes
from pc3d.engine.segment import Segmenter
from pc3d.errors import ConfigError, explain
from pc3d.metrics import INSTANCE_PROTOCOLS, InstanceAP, InstanceAPResult, merge_folds
from pc3d.models import Relation3D, load_model
from pc3d.progress import track
from pc3d.structures import Instances, PointCloud

#: What is done with the instances found in a scan, besides scoring them; split and name say which.
Keep = Callable[[str, str, Instances], None]


def evaluate(config: ExperimentConfig, checkpoint: str | Path, *, device: str = "auto",
             keep: Keep | None = None, protocol: str | None = None) -> InstanceAPResult:
    """Evaluate a checkpoint on the validation split of ``config.data``.

    ``protocol`` is ``scannet`` or, for precision, recall and coverage beside AP (an S3DISBenchmarkResult), ``s3dis``; the
    classes of the data set decide where it is not given. Raises ConfigError for another name.

    The checkpoint brings its network; of ``config.model`` only ``inference`` is used, and ``classes``, if it names any, must
    be those of the data set (ConfigError). Where its path holds ``{split}``, each split that ``data.val_split`` names is
    predicted by its own network, and the scans of all count as one data set: the 6-fold protocol of S3DIS. ``keep`` gets what
    was found in each scan, also in those that have no truth.
    """
    metric = metric_of(protocol or default_protocol(config.data.root))
    with processes(device) as group:
        folds = config.data.val_split.split(",") if "{split}" in str(checkpoint) else [config.data.val_split]
        scored = []
        for split in (fold.strip() for fold in folds):
            model = load_model(str(checkpoint).replace("{split}", split))
            model.config = model.config.model_copy(update={"inference": config.model.inference})
            dataset = ScanDataset(config.data.root, split, labelled=keep is None)
            if config.model.classes:
                check_classes(config.model.classes, dataset, whose="the config")
            scored += score_scans(model, dataset, group, keep=keep, metric=metric)
    return merge_folds(scored).result()


def metric_of(protocol: str) -> type[InstanceAP]:
    """The metric of a named protocol; raises ConfigError for a name that is none."""
    if protocol not in INSTANCE_PROTOCOLS:
        raise ConfigError(explain("unknown protocol", where="protocol", got=repr(protocol),
                                  expected=f"one of {', '.join(INSTANCE_PROTOCOLS)}"))
    return INSTANCE_PROTOCOLS[protocol]


def default_protocol(root: str | Path) -> str:
    """The protocol of a data set by its classes: ``s3dis`` for the 13 of S3DIS in any order, else ``scannet``."""
    return "s3dis" if sorted(read_classes(Path(root))) == sorted(S3DIS_CLASSES) else "scannet"


def evaluate_model(model: Relation3D, dataset: ScanDataset, group: Processes, *, limit: int | None = None) -> InstanceAPResult:
    """Evaluate a network on (the first ``limit``) scans of a dataset whose classes must be the network's."""
    return merge_folds(score_scans(model, dataset, group, limit=limit)).result()


def score_scans(model: Relation3D, dataset: ScanDataset, group: Processes, *, limit: int | None = None,
                keep: Keep | None = None, metric: type[InstanceAP] = InstanceAP) -> list[InstanceAP]:
    """What each scan counts for in the metric, in the order of the dataset; every process takes its share of the scans."""
    check_classes(model.config.classes, dataset, whose="the network")
    segmenter = Segmenter(model, str(group.device))
    mine = group.share(range(min(len(dataset), limit or len(dataset))))
    found = {index: _score(segmenter, dataset, index, keep, metric(dataset.classes))
             for index in (track(mine, "evaluate") if group.first else mine)}
    together = {index: scored for part in group.gather(found) for index, scored in part.items()}
    return [together[index] for index in sorted(together)]


def _score(segmenter: Segmenter, dataset: ScanDataset, index: int, keep: Keep | None, metric: InstanceAP) -> InstanceAP:
    cloud = dataset[index]
    found = segmenter(cloud).instances
    if cloud.labels is not None and cloud.instances is not None:
        add_scan(metric, cloud, found)
    if keep is not None:
        keep(dataset.paths[index].parent.name, dataset.scene(index), found)
    return metric


def add_scan(metric: InstanceAP, cloud: PointCloud, found: Instances) -> None:
    """Add a scan with labels and instances to a metric, without the points that its benchmark leaves out."""
    assert cloud.labels is not None
    assert cloud.instances is not None
    counted = counted_points(cloud)
    metric.add(cloud.labels[counted], cloud.instances[counted], found.on_points(counted))
