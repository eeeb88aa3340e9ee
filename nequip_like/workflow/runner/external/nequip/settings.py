"""The keys of a run as what they are in NequIP's configs (checked against 0.19.1); a key without an equal is refused.

What a run does not say is as in NequIP's tutorial: Adam, a plateau, averaged weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nequip_like.errors import ConfigError, closest_hint
from nequip_like.workflow.runner.built_in.architecture import translate_architecture
from nequip_like.workflow.runner.built_in.config_changes import ConfigChanges, describe_device, read_override_key
from nequip_like.workflow.runner.learning_rate import Schedule
from nequip_like.workflow.runner.requests import RunRequest

MONITORED = "val0_epoch/weighted_sum"

_LAYERS = ("radial_mlp_depth", "radial_mlp_width", "type_embed_num_features")
_ARGUMENTS = (
    "model_dtype", "readout_mlp_hidden_layers_depth", "readout_mlp_hidden_layers_width", "readout_mlp_nonlinearity",
    "per_edge_type_cutoff", "num_bessels", "bessel_trainable", "polynomial_cutoff_p",
    "per_type_energy_scales_trainable", "per_type_energy_shifts_trainable", "pair_potential", "avg_num_neighbors",
    "per_type_energy_scales", "per_type_energy_shifts",
)  # fmt: skip
_BUILDERS: dict[str, tuple[str, ...]] = {
    "NequIPGNNModel": (*_ARGUMENTS, *_LAYERS, "num_layers", "l_max", "parity", "num_features"),
    "FullNequIPGNNModel": (
        *_ARGUMENTS, *_LAYERS, "feature_irreps_hidden", "irreps_edge_sh", "convnet_sc", "convnet_resnet",
        "convnet_nonlinearity_type", "convnet_nonlinearity_scalars", "convnet_nonlinearity_gates",
    ),
}  # fmt: skip
_FILLED_IN = ("_target_", "type_names", "r_max", "seed", "kernel")
_ZBL = "nequip.nn.pair_potential.ZBL"
_TUTORIAL = {
    "num_layers": 4,
    "l_max": 1,
    "parity": True,
    "num_features": 32,
    "radial_mlp_depth": 2,
    "radial_mlp_width": 64,
}
_TUTORIAL_SCHEDULE = Schedule("plateau", factor=0.6, patience=5)

_OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"_target_": "torch.optim.Adam"},
    "amsgrad": {"_target_": "torch.optim.Adam", "amsgrad": True},
    "adamw": {"_target_": "torch.optim.AdamW"},
    "nadam": {"_target_": "torch.optim.NAdam"},
    "radam": {"_target_": "torch.optim.RAdam"},
    "sgd": {"_target_": "torch.optim.SGD", "momentum": 0.9},
}
_LOSSES = {"mse": "nequip.train.MeanSquaredError", "mae": "nequip.train.MeanAbsoluteError"}
_NO_EQUAL = {
    "no_decay_keywords": "leave it out: NequIP decays all weights alike",
    "amp": "leave it out: NequIP trains in float32 or float64 (model_dtype in train.input_json)",
    "cycle_steps": "leave it out: NequIP validates and saves once an epoch",
    "progress_mininterval": "leave it out: progress is reported once an epoch",
    "freeze": "leave it out: NequIP trains all of a model",
    "head_key": "leave it out: the model has one head",
    "use_core": "write backend: nequip for our own trainer",
    "force_core": "write backend: nequip for our own trainer",
    "config_yml": "give the architecture in train.input_json, and what else NequIP's configs have in backend_args",
    "identifier": "name: ... names the run",
}
_WITHOUT_EFFECT = (False, None, "none", 0)  # a key that is off asks for nothing


@dataclass
class NequIPSettings:
    """What a training of NequIP is told, beside its data.

    Attributes:
        builder: The function that builds a new model.
        model: Its arguments.
        cutoff: Cutoff radius of a new model, Angstrom; None: the run file does not say.
        trainer: Arguments of Lightning's trainer.
        optimizer: The optimizer.
        scheduler: The schedule of the learning rate; None without one.
        losses: The loss of ``energy`` and ``forces``.
        weights: Their weights.
        batch_size: Frames of a step.
        drop_last: Leave an incomplete last batch of an epoch out.
        num_workers: Processes that load batches.
        seed: Of weights and of the order of frames.
        save_every: Epochs between two checkpoints.
        stop_after: Validations without improvement after which the training ends; 0: never.
        sections: Sections of the training module that the run itself says something of.
        notes: What the user should know.
    """

    builder: str = "NequIPGNNModel"
    model: dict[str, Any] = field(default_factory=lambda: dict(_TUTORIAL))
    cutoff: float | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] | None = None
    losses: dict[str, str] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    batch_size: int = 5
    drop_last: bool = False
    num_workers: int = 0
    seed: int = 0
    save_every: int = 1
    stop_after: int = 0
    sections: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def translate_settings(request: RunRequest) -> NequIPSettings:
    """What a run that trains is in NequIP's config.

    Args:
        request: The run.

    Raises:
        ConfigError: If a key has no equal there, or keys contradict each other.
    """
    train = {key: value for key, value in request.section("train").items() if value is not None or key == "scheduler"}
    for key, advice in _NO_EQUAL.items():
        if key in train and train[key] not in _WITHOUT_EFFECT:
            raise ConfigError(f"train.{key} has no equal in NequIP", advice)
    settings = NequIPSettings()
    _translate_model(request, train, settings)
    _translate_sizes(request, train, settings)
    _translate_optimizer(train, settings)
    _translate_schedule(train, settings)
    _translate_loss(train, settings)
    settings.trainer |= describe_device(request.device)
    for argument in request.arguments:
        key = read_override_key(argument)
        if key.split(".")[0] in ("hydra", "run", "ckpt_path"):
            raise ConfigError(f"backend_args has '{key}', which the runner sets", "leave it out")
    return settings


def _translate_model(request: RunRequest, train: Mapping[str, Any], settings: NequIPSettings) -> None:
    if "input_json" not in train:
        return
    if request.task != "train":
        raise ConfigError(
            f"train.input_json is given, but task: {request.task} takes the model that is there", "leave it out"
        )
    changes = ConfigChanges(["model=nequip"])
    translate_architecture(train, changes)
    settings.cutoff = changes.values.pop("cutoff_radius", None)
    full = changes.values.pop("model", None)
    arguments = dict(full or {key.removeprefix("model."): value for key, value in changes.values.items()})
    settings.builder = "FullNequIPGNNModel" if full else "NequIPGNNModel"
    options = _BUILDERS[settings.builder]
    model: dict[str, Any] = {} if full else dict(_TUTORIAL)
    for key, value in arguments.items():
        if key in _FILLED_IN or (isinstance(value, str) and value.startswith("${")):
            continue  # the data say it
        if key == "type_embedding_start":
            settings.notes.append("train.input_json: NequIP begins with random embeddings of the species")
        elif key == "pair_potential" and value is not None:
            model[key] = _translate_pair_potential(value)
        elif key in options:
            model[key] = value
        else:
            raise ConfigError(
                f"train.input_json has '{key}', which is no argument of NequIP's {settings.builder}",
                f"{closest_hint(key, options)}known are r_max, {', '.join(sorted(options))}",
            )
    settings.model = model


def _translate_pair_potential(value: Any) -> dict[str, Any]:
    target = value.get("_target_", "") if isinstance(value, Mapping) else ""
    if target not in (_ZBL, _ZBL.replace("nequip.", "nequip_like.")):
        raise ConfigError("train.input_json: pair_potential is not ZBL", f"write {{_target_: {_ZBL}, units: metal}}")
    return {"units": "metal", **value, "_target_": _ZBL}


def _translate_sizes(request: RunRequest, train: Mapping[str, Any], settings: NequIPSettings) -> None:
    trainer = settings.trainer
    trainer["max_epochs"] = train.get("epochs", 1)
    for key, place in (
        ("accum_steps", "accumulate_grad_batches"),
        ("max_grad_norm", "gradient_clip_val"),
        ("log_every", "log_every_n_steps"),
    ):
        if key in train:
            trainer[place] = train[key]
    for key in ("batch_size", "drop_last", "num_workers", "seed", "save_every"):
        if key in train:
            setattr(settings, key, train[key])
    if (size := request.section("data").get("batch_size")) is not None:
        if "batch_size" in train:
            raise ConfigError("train.batch_size and data.batch_size are both given", "give one of them")
        settings.batch_size = size
    if train.get("progress_bar") is True:
        raise ConfigError("train.progress_bar is true, but NequIP prints to a log", "leave it out, or write auto")
    if "save_every" in train:
        settings.notes.append("train.save_every: the best checkpoint is kept from whichever epoch it is")


def _translate_optimizer(train: Mapping[str, Any], settings: NequIPSettings) -> None:
    name = train.get("optimizer", "adam")
    if name not in _OPTIMIZERS:
        hint = closest_hint(name, _OPTIMIZERS)
        raise ConfigError(
            f"train.optimizer is '{name}', which has no equal in NequIP", f"{hint}known are {', '.join(_OPTIMIZERS)}"
        )
    settings.optimizer = {**_OPTIMIZERS[name], "lr": train.get("lr", 0.01)}
    if train.get("weight_decay"):
        settings.optimizer["weight_decay"] = train["weight_decay"]
        settings.notes.append("train.weight_decay: NequIP decays all weights, biases, too")
    if {"optimizer", "lr", "weight_decay"} & train.keys():
        settings.sections.append("optimizer")


def _translate_schedule(train: Mapping[str, Any], settings: NequIPSettings) -> None:
    given = Schedule.read(train)
    if train.get("scheduler_step_unit") == "cycle":
        raise ConfigError("train.scheduler_step_unit is cycle, but NequIP has no cycles", "leave it out")
    if given is not None:
        settings.sections.append("lr_scheduler")
    schedule = given or _TUTORIAL_SCHEDULE
    if schedule.kind == "plateau":
        scheduler: dict[str, Any] = {
            "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau",
            "factor": schedule.factor,
            "patience": schedule.patience,
            **({"threshold": 0.2, "min_lr": 1.0e-6} if given is None else {}),
        }
        settings.scheduler = {"scheduler": scheduler, "monitor": MONITORED, "interval": "epoch", "frequency": 1}
    elif schedule.kind == "step":
        target = "torch.optim.lr_scheduler.StepLR"
        scheduler = {"_target_": target, "step_size": schedule.step_size, "gamma": schedule.gamma}
        settings.scheduler = {"scheduler": scheduler, "interval": "epoch", "frequency": 1}
    settings.stop_after = schedule.count_until_stop(train)


def _translate_loss(train: Mapping[str, Any], settings: NequIPSettings) -> None:
    settings.weights = {"energy": train.get("energy_weight", 1.0), "forces": train.get("force_weight", 1.0)}
    if not any(settings.weights.values()):
        raise ConfigError("train.energy_weight and train.force_weight are both 0", "give one that is not")
    for key, quantity in (("loss_energy", "energy"), ("loss_force", "forces")):
        name = train.get(key, "mse")
        if name not in _LOSSES:
            raise ConfigError(f"train.{key} is {name}, which has no equal in NequIP", "give mse or mae")
        settings.losses[quantity] = _LOSSES[name]
    if {"energy_weight", "force_weight", "loss_energy", "loss_force"} & train.keys():
        settings.sections.append("loss")
