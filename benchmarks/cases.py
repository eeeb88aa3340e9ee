"""The architectures that all benchmarks of speed run: NequIP with 4 layers of 32 features, cutoff 5 Angstrom."""

from __future__ import annotations

CASES = {
    "l1": {"l_max": 1, "parity": False},
    "l1_parity": {"l_max": 1, "parity": True},
    "l2": {"l_max": 2, "parity": False},
    "l2_parity": {"l_max": 2, "parity": True},
    "l3": {"l_max": 3, "parity": False},
}
ARCHITECTURE = {
    "seed": 1,
    "model_dtype": "float32",
    "type_names": ["H", "C", "N", "O"],
    "r_max": 5.0,
    "num_layers": 4,
    "num_features": 32,
    "radial_mlp_depth": 2,
    "radial_mlp_width": 64,
    "avg_num_neighbors": 16.7,
    "per_type_energy_scales": 1.0,
    "per_type_energy_shifts": 0.0,
}


def features(case: str) -> str:
    """The features of a hidden layer, written as irreps."""
    width, l_max, parity = ARCHITECTURE["num_features"], CASES[case]["l_max"], CASES[case]["parity"]
    natural = [("e", "o")[degree % 2] for degree in range(l_max + 1)]
    signs = ["eo"] * (l_max + 1) if parity else natural
    return " + ".join(f"{width}x{degree}{sign}" for degree in range(l_max + 1) for sign in signs[degree])
