"""What fine-tuning does to a model: which parameters are trained, and species that it did not have."""

from nequip_like.model.finetuning.freezing import HEAD, chosen_parameters, fits, train_only
from nequip_like.model.finetuning.species import MEAN, change_shifts, rebuilt

__all__ = ["HEAD", "MEAN", "change_shifts", "chosen_parameters", "fits", "rebuilt", "train_only"]
