"""Pretraining: a cheap teacher labels structures around the user's own, and the potential learns from these first.

``settings`` says what the config asks for, ``teachers`` builds the calculator, ``geometries`` makes structures,
``labelling`` has them labelled, ``nested`` makes configs of the trainings out of the user's, and ``run`` puts them
together in front of the run itself, with a control that compares the pretrained start with a fresh one.
"""
