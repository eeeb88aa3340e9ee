"""Using a trained potential: model files, predictions, evaluation on labelled data."""

from nequip_like.inference.evaluation import Evaluation, evaluate
from nequip_like.inference.loading import load_any
from nequip_like.inference.model_file import load, read_card, save
from nequip_like.inference.predictor import Predictor

__all__ = ["Evaluation", "Predictor", "evaluate", "load", "load_any", "read_card", "save"]
