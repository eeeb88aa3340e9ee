"""What fine-tuning does to a model: which parameters are trained, and species that it did not have."""

from nequip_like.model.finetuning.family import MEAN, TunableFamily
from nequip_like.model.finetuning.freezing import chosen_parameters, fits_to_name, train_only
from nequip_like.model.finetuning.species import change_shifts, rebuilt
from nequip_like.model.finetuning.tunable import FINE_TUNED, find_tunable

__all__ = [
    "FINE_TUNED",
    "MEAN",
    "TunableFamily",
    "change_shifts",
    "chosen_parameters",
    "find_tunable",
    "fits_to_name",
    "rebuilt",
    "train_only",
]
