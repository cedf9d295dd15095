"""The networks that ship with pc3d, by name."""

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent

#: Name -> file in this folder; its config and classes lie in a .json beside it.
MODELS = {"relation3d-synth": "relation3d-synth.safetensors"}

#: Checkpoints of 2D models that ship, each a folder here: ``pc3d lift --segmenter mask2former:mask2former-synth``.
CHECKPOINTS = ("mask2former-synth",)

#: The network that is used when none is named.
DEFAULT_MODEL = "relation3d-synth"

#: Instances that score less are not shown or written, unless asked for.
MIN_SCORE = 0.2
