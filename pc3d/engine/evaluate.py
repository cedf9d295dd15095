"""Instance AP of a network on a dataset."""

from __future__ import annotations

from pathlib import Path

from pc3d.config import ExperimentConfig
from pc3d.data import ScanDataset
from pc3d.engine.segment import Segmenter
from pc3d.errors import ConfigError, explain
from pc3d.metrics import InstanceAP, InstanceAPResult
from pc3d.models import Relation3D, load_model
from pc3d.progress import track


def evaluate(config: ExperimentConfig, checkpoint: str | Path, *, device: str = "auto") -> InstanceAPResult:
    """Evaluate a checkpoint on the validation split of ``config.data`` by the ScanNet protocol.

    The checkpoint brings its network; of ``config.model`` only ``inference`` is used.
    """
    model = load_model(checkpoint)
    model.config = model.config.model_copy(update={"inference": config.model.inference})
    return evaluate_model(model, ScanDataset(config.data.root, config.data.val_split), device=device)


def evaluate_model(model: Relation3D, dataset: ScanDataset, *, device: str = "auto",
                   limit: int | None = None) -> InstanceAPResult:
    """Evaluate a network on (the first ``limit``) scans of a dataset whose classes must be the network's."""
    if tuple(model.config.classes) != dataset.classes:
        raise ConfigError(explain("the network and the dataset name different classes", where=dataset.root,
                                  got=", ".join(dataset.classes), expected=", ".join(model.config.classes)))
    metric = InstanceAP(dataset.classes)
    segmenter = Segmenter(model, device)
    for index in track(range(min(len(dataset), limit or len(dataset))), "evaluate"):
        cloud = dataset[index]
        assert cloud.labels is not None  # ScanDataset sees to that, and to instances
        assert cloud.instances is not None
        metric.add(cloud.labels, cloud.instances, segmenter(cloud).instances)
    return metric.result()
