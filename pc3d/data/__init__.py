"""Scans as training samples: targets, collation, and datasets on disk."""

from pc3d.data.collate import collate
from pc3d.data.sample import Sample, make_sample
from pc3d.data.scans import ScanDataset
from pc3d.data.targets import make_targets
from pc3d.data.training import TrainingSamples

__all__ = ["Sample", "ScanDataset", "TrainingSamples", "collate", "make_sample", "make_targets"]
