"""A data set as training sees it: samples that are a pure function of what they are asked for."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from pc3d.config import ExperimentConfig
from pc3d.data.sample import Sample, make_sample
from pc3d.data.scans import ScanDataset
from pc3d.structures import PointCloud
from pc3d.transforms import random_window, view, wall_to_wall


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
        return make_sample(self._cloud(index, rng), self.config.model, augment=self.config.augment,
                           max_points=self.config.data.max_points, rng=rng)

    def _cloud(self, index: int, rng: np.random.Generator) -> PointCloud:
        """A scan or, by a chance of ``augment.neighbours``, a window on it and three others, each turned by quarters."""
        augment = self.config.augment
        if augment.neighbours == 0 or rng.random() >= augment.neighbours:
            return self.scans[index]
        rooms = [view(self.scans[int(room)], int(rng.integers(4))) for room in (index, *rng.integers(len(self.scans), size=3))]
        return random_window(wall_to_wall(rooms), rng.uniform(*augment.window), rng)
