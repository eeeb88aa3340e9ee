"""Files to graphs to batches: fields, readers, neighbour lists, splits, statistics and the Lightning datamodule.

Nothing is imported here, so that using the table of fields does not load Lightning or ASE.
"""
