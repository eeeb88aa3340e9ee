"""What fine-tuning does to a model: which parameters are trained, and species that it did not have."""

from nequip_like.model.finetuning.freezing import HEAD, chosen_parameters, matches, train_only
from nequip_like.model.finetuning.species import MEAN, change_shifts, rebuilt

__all__ = ["HEAD", "MEAN", "change_shifts", "chosen_parameters", "matches", "rebuilt", "train_only"]
