"""Lightning's training steps without what nothing uses.

``epoch_loop`` takes an ordinary step without Lightning's layers between the hooks, ``module`` is the Lightning module
that brings it in and passes over idle hooks, ``logged_values`` puts a value where the one of the step before stands.
All of it uses Lightning's private names; what is not ordinary, Lightning does itself.
"""
