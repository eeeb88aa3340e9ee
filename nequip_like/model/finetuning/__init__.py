"""What fine-tuning does to a model: which parameters are trained, and species that it did not have."""

from nequip_like.model.finetuning.freezing import HEAD, chosen_parameters, fits_to_name, train_only
from nequip_like.model.finetuning.species import MEAN, change_shifts, rebuilt

__all__ = ["HEAD", "MEAN", "change_shifts", "chosen_parameters", "fits_to_name", "rebuilt", "train_only"]
