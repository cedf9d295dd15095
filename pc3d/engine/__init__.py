"""Doing the work: segment a scan, train a network, evaluate it."""

from pc3d.engine.evaluate import evaluate, evaluate_model
from pc3d.engine.segment import Segmentation, Segmenter, add_images, confident, segment
from pc3d.engine.train import train

__all__ = ["Segmentation", "Segmenter", "add_images", "confident", "evaluate", "evaluate_model", "segment", "train"]
