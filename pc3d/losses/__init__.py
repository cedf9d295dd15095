"""Matching queries with instances, and the losses of Relation3D."""

from pc3d.losses.contrastive import contrastive_loss
from pc3d.losses.criterion import Criterion, LossSizes
from pc3d.losses.matcher import Match, match

__all__ = ["Criterion", "LossSizes", "Match", "contrastive_loss", "match"]
