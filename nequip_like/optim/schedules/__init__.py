"""Learning rates as functions of the number of optimizer steps: schedules, warm-up, and their lengths.

``shapes`` and ``warmup`` hold the closed forms, ``names`` what they are called in a config, ``lengths`` how epochs
become steps, ``plateau`` the one that follows a metric, and ``learning_rate`` the class that a config names.
"""
