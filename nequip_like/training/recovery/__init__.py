"""A run that diverges goes back to weights that were good.

``divergence`` suspects it, ``snapshot`` keeps the last good weights, and ``recovering_module`` is the Lightning module
that settles a suspicion and goes back.
"""
