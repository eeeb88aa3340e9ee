"""A whole training out of data and a time: what the data are, what fits into the time, what trains best in short trials.

``survey`` looks at the data, ``settings`` chooses what follows from them, ``step_time`` measures models on this machine,
``plan`` divides the time, ``trials`` are short trainings, ``outlook`` is what more data or time would bring, and ``run``
puts them together: what ``nequip-auto`` does.
"""
