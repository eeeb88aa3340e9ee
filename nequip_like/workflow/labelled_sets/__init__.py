"""Files of labelled structures, made of others: converted, merged and split, as ``nequip-data`` does."""
