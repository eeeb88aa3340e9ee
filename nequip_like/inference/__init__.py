"""Using a trained potential: model files, predictions, evaluation on labelled data.

``nequip_like.inference.evaluation`` is imported by its name: it needs the metrics of training, which a simulation
does not.
"""

from nequip_like.inference.loading import load, load_any
from nequip_like.inference.model_file import read_card, save
from nequip_like.inference.predictor import Predictor

__all__ = ["Predictor", "load", "load_any", "read_card", "save"]
