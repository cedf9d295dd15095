"""Networks: building, predicting, saving, loading and converting them."""

from pc3d.models.checkpoint import load_into, load_model, save_model
from pc3d.models.convert import convert_checkpoint
from pc3d.models.prediction import split_at_gaps, to_instances
from pc3d.models.proposals import Proposals
from pc3d.models.relation3d import Relation3D, build
from pc3d.models.tiling import join_tiles
from pc3d.weights import MODELS

__all__ = ["MODELS", "Proposals", "Relation3D", "build", "convert_checkpoint", "join_tiles", "load_into", "load_model",
           "save_model", "split_at_gaps", "to_instances"]
