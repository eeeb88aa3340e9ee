"""A whole training out of data and a time: what the data are, what fits into the time, what trains best.

``survey`` looks at the data, ``settings`` chooses what follows from them, ``models`` come into question, ``step_time``
measures them on this machine, ``plan`` divides the time between short trainings (``workflow.trials``) and the training
itself, ``outlook`` is what more data or time would bring, and ``run`` puts them together: what ``nequip-auto`` does.
"""
