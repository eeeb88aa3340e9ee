"""NequIP's models, of its checkpoints and packages, as potentials of this package, and back (NequIP 0.19)."""

from nequip_like.compat.nequip_models.exporting import export_to_nequip
from nequip_like.compat.nequip_models.importing import import_nequip_model

__all__ = ["export_to_nequip", "import_nequip_model"]
