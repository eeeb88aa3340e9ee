"""The physics that every model family has to obey, as tests that any package can inherit.

A new family gets all of them in a few lines::

    from nequip_like.testing import PotentialContract

    class TestMyFamily(PotentialContract):
        families = {"my_family": MyFamily}

        def build(self, **arguments):
            return MyFamily(num_layers=2, **arguments)

``pytest`` is needed to run the class, not to import it. The checks are plain functions (``symmetry``, ``derivatives``,
``composition``, ``rebuilding``), which can be called on any potential and structure.
"""

from nequip_like.testing.contract import PotentialContract
from nequip_like.testing.tolerances import TOLERANCES, Tolerances

__all__ = ["TOLERANCES", "PotentialContract", "Tolerances"]
