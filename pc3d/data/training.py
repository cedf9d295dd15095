"""A data set as training sees it: samples that are a pure function of what they are asked for."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from pc3d.config import ExperimentConfig
from pc3d.data.sample import Sample, make_sample
from pc3d.data.scans import ScanDataset


class TrainingSamples(Dataset[Sample]):
    """Augmented samples, asked for by (epoch, index): the randomness of each follows from these and ``train.seed`` alone.

    So neither the number of loader workers nor what was asked before changes a sample, and a run can go on anywhere.
    """

    def __init__(self, scans: ScanDataset, config: ExperimentConfig) -> None:
        self.scans, self.config = scans, config

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        rng = np.random.default_rng([self.config.train.seed, epoch, index])
        return make_sample(self.scans[index], self.config.model, augment=self.config.augment,
                           max_points=self.config.data.max_points, rng=rng)
