"""A run that ends at a time and not at an epoch: ``budget: 30min``.

``durations`` reads what the user wrote, ``clock`` tells how long a command has run, ``reserve`` what comes after the
training, ``planner`` how many steps are left (it knows no clock and no Lightning), ``record_file`` keeps the plans, and
``keeper`` is the callback that brings them together. What learning rates and weights of the loss go by is
:class:`~nequip_like.optim.schedules.progress.Progress`.
"""
