"""Configs of metrics, batches with labels and predictions, and frames, that nequip_parity_metrics.py compares on."""

import numpy as np

TYPE_NAMES = ["H", "C", "O"]
CUTOFF = 2.5
FIELDS = ("total_energy", "forces", "stress")
EF, EFS = {"total_energy": 3.0, "forces": 1.0}, {"total_energy": 3.0, "forces": 1.0, "stress": 2.0}
METRICS = ("MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError", "MaximumAbsoluteError", "HuberLoss")
STRATA = {"0": 0.5, "1.0": 0.3, "2.0": 0.1}


def entry(metric, field="forces", **rest):
    return {"metric": metric, "field": field, **rest}


def everything(**rest):
    """Every metric of every label, each with a coefficient of its own."""
    found, coeff = [], 0.0
    for metric in (
        "MeanAbsoluteError",
        "MeanSquaredError",
        "RootMeanSquaredError",
        "HuberLoss",
        "MaximumAbsoluteError",
    ):
        for field in ("total_energy", "per_atom:total_energy", "forces", "stress"):
            coeff += 0.5
            found.append(entry(metric, field, coeff=coeff, **rest))
    return found


def stratified(strata, **rest):
    return [entry("StratifiedHuberForceLoss", arguments={"delta_dict": strata}, coeff=1.0, name="strata", **rest)]


PER_TYPE = [
    entry("RootMeanSquaredError", per_type=True, coeff=1.0),
    entry("MeanAbsoluteError", per_type=True, coeff=2.0, per_type_coeffs={"H": 1.0, "C": 2.0, "O": 0.5}),
    entry("MaximumAbsoluteError", per_type=True),
]
WHOLE, PARTLY, BARE, NO_OXYGEN = ([f"{kind}{i}" for i in range(3)] for kind in ("whole", "partly", "bare", "no_oxygen"))


def cases():
    """Name, batches, config, and the correction of nequip's defect where it has one."""
    plain = {
        "all metrics, all labels": everything(),
        "one term without its label in some frames": [entry("MeanSquaredError", "stress", coeff=1.0, ignore_nan=True)],
        "coeffs null and 0": [entry("MeanSquaredError", coeff=0.0), *everything()[:4], entry("RootMeanSquaredError")],
        "all coeffs null": [entry("MeanSquaredError"), entry("MeanAbsoluteError", "stress")],
        "all coeffs 0": [entry("MeanSquaredError", coeff=0.0), entry("MeanAbsoluteError", coeff=0)],
        "Huber: delta 0.3, sum": [entry("HuberLoss", arguments={"delta": 0.3, "reduction": "sum"}, coeff=1.0)],
        "stratified Huber": stratified(STRATA),
        "stratified Huber from 0.7": stratified({"0.7": 0.5, "1.5": 0.2}),
        "stratified Huber, sum": [
            entry("StratifiedHuberForceLoss", arguments={"delta_dict": STRATA, "reduction": "sum"}, coeff=1, name="s")
        ],
        "per type": PER_TYPE,
    }
    found = [case(name, WHOLE, metrics=entries) for name, entries in plain.items()]
    found[1]["batches"] = ["partly0", "partly2"]
    found += [
        case("per type, some labels missing", PARTLY, metrics=[{**e, "ignore_nan": True} for e in PER_TYPE[:2]]),
        case("all metrics, some labels missing", ["partly0", "partly2"], metrics=everything(ignore_nan=True)),
        *(
            case(f"{preset}", WHOLE, preset=preset, arguments={"coeffs": coeffs, **rest})
            for preset, coeffs, rest in (
                ("EnergyForceLoss", EF, {}),
                ("EnergyForceStressLoss", EFS, {"per_atom_energy": False}),
                ("EnergyForceMetrics", {"total_energy_mae": 1.0, "per_atom_energy_rmse": 2.0, "forces_rmse": 1.0}, {}),
                ("EnergyForceStressMetrics", {"stress_mae": 1.0, "forces_maxabserr": None, "forces_mae": 3.0}, {}),
                ("EnergyOnlyMetrics", {"total_energy_rmse": 1.0, "per_atom_energy_maxabserr": 0.5}, {}),
            )
        ),
        case("EnergyOnlyLoss", WHOLE, preset="EnergyOnlyLoss", arguments={}),
        case(
            "EnergyForceLoss per type",
            WHOLE,
            preset="EnergyForceLoss",
            arguments={"per_type_forces_coeffs": {"H": 1.0, "C": 3.0, "O": 2.0}, "type_names": TYPE_NAMES},
        ),
        case("batch without any stress", PARTLY, "sum of the rest", metrics=everything(ignore_nan=True)),
        case("per type, batch without any forces", BARE, "by hand", metrics=[{**PER_TYPE[0], "ignore_nan": True}]),
        case("per type, absent species", NO_OXYGEN, "mean of the present", metrics=PER_TYPE),
        case("stratified Huber, unsorted", WHOLE, "as sorted", metrics=stratified(dict(reversed(STRATA.items())))),
        case("stratified Huber, keys as text", WHOLE, "as sorted", metrics=stratified(STRATA), text_keys=True),
        case("RMSE of a perfect prediction", ["perfect"], "zero", metrics=[entry("RootMeanSquaredError", coeff=1.0)]),
    ]
    return found


def case(name, batches, correction=None, **config):
    return {"name": name, "batches": batches, "correction": correction, "type_names": TYPE_NAMES, **config}


def make_batches():
    """Frames of unequal size with labels and predictions; some or all labels missing, or a species absent."""
    random = np.random.default_rng(7)
    found = {}
    for index, sizes in enumerate(([4, 7, 5], [6], [3, 9])):
        atoms, frames = sum(sizes), len(sizes)
        types = random.permutation(np.arange(atoms) % 3)
        base = {
            "pos": random.normal(size=(atoms, 3)),
            "atom_types": types,
            "num_atoms": np.array(sizes),
            "batch": np.repeat(np.arange(frames), sizes),
        }
        for key, shape in zip(FIELDS, ((frames, 1), (atoms, 3), (frames, 3, 3)), strict=True):
            base[key] = 2.0 * random.normal(size=shape)
            base[f"predicted_{key}"] = base[key] + random.normal(size=shape)
        found[f"whole{index}"] = base
        missing = {key: base[key].copy() for key in FIELDS}
        missing["stress"][0] = np.nan
        missing["forces"][::4] = np.nan
        missing["forces"][1, 2] = np.nan
        if frames > 1:
            missing["total_energy"][1] = np.nan
        found[f"partly{index}"] = base | missing
        found[f"bare{index}"] = base | ({"forces": np.full((atoms, 3), np.nan)} if index == 1 else {})
        found[f"no_oxygen{index}"] = base | {"atom_types": types % 2}
    perfect = found["whole1"]
    found["perfect"] = perfect | {f"predicted_{key}": perfect[key] for key in FIELDS}
    return found


def make_frames():
    """Small structures with labels: chains, so that each atom has neighbours, and one with an atom far away."""
    random = np.random.default_rng(11)
    found = {}
    for name, symbols in {"a": [0, 0, 1], "b": [1, 2, 0, 0, 2], "c": [2, 1], "far": [1, 0, 2, 0]}.items():
        atoms = len(symbols)
        positions = np.arange(atoms)[:, None] * [1.1, 0.2, 0.0] + 0.1 * random.normal(size=(atoms, 3))
        if name == "far":
            positions[0] += 50.0
        found[name] = {
            "pos": positions,
            "atom_types": np.array(symbols),
            "total_energy": random.normal(size=(1, 1)),
            "forces": random.normal(size=(atoms, 3)),
        }
    found["unlabelled"] = found["b"] | {"forces": np.where(np.arange(5)[:, None] < 2, np.nan, found["b"]["forces"])}
    return found


STATISTICS = [
    {"name": "statistics", "frames": ["a", "b", "c"], "correction": None},
    {"name": "statistics, an isolated atom", "frames": ["a", "far"], "correction": "counted by atom"},
    {"name": "statistics, some forces missing", "frames": ["a", "unlabelled"], "correction": "of those there are"},
]
