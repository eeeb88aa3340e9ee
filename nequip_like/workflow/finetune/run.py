"""Fine-tuning: a run that begins with the weights of another model.

The source decides what the model is: its architecture and cutoff, all that was measured on its training data (average
number of neighbours, statistics of features, energy scales and shifts), and the species with their order. Before the
first step the model is the source, to the last bit where the kernel is the same; with shifts that are refitted, it is
the source plus one energy for each atom.

A checkpoint of such a run holds all of this, so to go on from it the source is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nequip_like.data import fields
from nequip_like.data import reference_energies as rules
from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import has_label
from nequip_like.data.published import compute_checksum
from nequip_like.data.reference_energies import ReferenceEnergies
from nequip_like.data.species import species_of
from nequip_like.errors import ConfigError, DataError, closest_hint
from nequip_like.inference.loading import load_checkpoint
from nequip_like.inference.predictor import Predictor
from nequip_like.model.finetuning import (
    FINE_TUNED,
    MEAN,
    TunableFamily,
    change_shifts,
    chosen_parameters,
    rebuilt,
    train_only,
)
from nequip_like.model.potential import Potential
from nequip_like.nn.lora import adapt
from nequip_like.summaries import Summarized
from nequip_like.workflow.finetune.settings import Settings, read_settings
from nequip_like.workflow.finetune.source import check_model, check_settings, find_model_section, read_source
from nequip_like.workflow.resume import Resumption

_BUILDERS = "nequip_like.model"  # the module of all builders, by the names that configs use


@dataclass(repr=False)
class FineTuning(Summarized):
    """A run that begins with another model.

    Attributes:
        settings: What the config says.
        source: The model that it begins with; of a run that goes on, that of its checkpoint.
        source_path: The file that it is from.
        info: Plain values that are kept in checkpoints and in the model file: ``source`` and its ``sha256``, what
            ``new_species`` begin as, and ``shift_changes``, what was added to energy shifts, eV.
        resumed: Whether the run goes on from a checkpoint of its own.
        refit: How the shifts were refitted, if they were now.
        adapted: Number of weights with low-rank adaptation.
    """

    settings: Settings
    source: Potential
    source_path: str
    info: dict[str, Any]
    resumed: bool = False
    refit: ReferenceEnergies | None = None
    adapted: int = field(default=0)

    @property
    def family(self) -> TunableFamily:
        """What fine-tuning knows of the model's family."""
        return FINE_TUNED[self.source.config["family"]]

    def build(self, config: DictConfig, data: DataModule) -> Potential:
        """Build the model before the first step, with what is not trained frozen.

        The config then describes it, and replayed labels have moved with its shifts.

        Args:
            config: The config; its model and species are changed.
            data: The data, prepared.

        Raises:
            ConfigError: If data, source and settings do not fit together.
        """
        if data.cutoff_radius < self.source.cutoff:
            raise ConfigError(
                f"data.cutoff_radius is {data.cutoff_radius}, but the model of {self.source_path} sees "
                f"{self.source.cutoff} Angstrom far",
                "leave it out, or give cutoff_radius once at the top level",
            )
        section, node = find_model_section(config)
        changes = {key: node[key] for key in self.family.free if key in node}
        if self.resumed:
            _check_no_new(data, self.source, self.source_path)
            model = rebuilt(self.source, changes)
        else:
            changes |= {switch: True for switch in self.family.switches if node.get(switch)}
            model = self._begin(data, changes)
        data.move_replay(self.info["shift_changes"])
        self._choose_trained(model, int(config.seed))
        _describe(config, section, model, self.family)
        return model

    def _begin(self, data: DataModule, changes: Mapping[str, Any]) -> Potential:
        starts = _choose_starts(self.settings.new_species, data.type_names[len(self.source.type_names) :], self)
        refit = self.settings.shifts == "refit"
        model = rebuilt(self.source, changes, starts, _look_up_new_shifts(list(starts), data.reference, refit))
        self.info["new_species"] = {name: start or "mean" for name, start in starts.items()}
        if refit:
            self.refit = _fit_shift_changes(model, data)
            self.info["shift_changes"] = dict(self.refit.energies)
            change_shifts(model, self.refit.energies)
        return model

    def _choose_trained(self, model: Potential, seed: int) -> None:
        """Freeze the parameters that the settings do not name; a name that no parameter has is an error."""
        settings = self.settings
        names = [name for name, _ in model.named_parameters()]
        trained = names if settings.lora is None else []
        if settings.modules is not None:
            trained = chosen_parameters(model, settings.modules, "finetune.modules")
        elif settings.freeze is not None:
            trained = self.family.list_head(model)
        if settings.lora is not None:
            adapted = adapt(model, settings.lora.rank, settings.lora.alpha, seed, but=trained)
            if not adapted:
                raise ConfigError("finetune.modules names all linear layers, and finetune.lora none", "leave one out")
            self.adapted = len(adapted)
            trained = [*trained, *(name for name, _ in model.named_parameters() if ".lora_" in name)]
        train_only(model, trained)


def begin(config: DictConfig, resumption: Resumption | None) -> FineTuning | None:
    """Read the model that a run begins with; or, if the run goes on, that of its checkpoint.

    The cutoff of the config becomes that of the model.

    Args:
        config: The composed config; its ``cutoff_radius`` is changed.
        resumption: The checkpoint that the run goes on from, if it does.

    Returns:
        None if the run is no fine-tuning.

    Raises:
        ConfigError: If the config contradicts the model.
        ModelFileError: If the model cannot be read.
    """
    section = config.get("finetune")
    settings = read_settings(OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else section)
    if settings is None:
        return None
    if resumption is None:
        source, card = read_source(settings.source)
        path = Path(card["path"])
        info = {
            "source": str(path.absolute()),
            "sha256": compute_checksum(path),
            "new_species": {},
            "shift_changes": {},
        }
        tuning = FineTuning(settings, source, str(path), info)
    else:
        if "finetune" not in resumption.checkpoint_entry:
            raise ConfigError(
                f"finetune.source is given, but {resumption.path} is no checkpoint of a fine-tuning run",
                f"to begin with its weights write finetune.source={resumption.path}, and neither ckpt_path nor resume",
            )
        source, path = load_checkpoint(resumption.path)[0], resumption.path
        tuning = FineTuning(settings, source, str(path), dict(resumption.checkpoint_entry["finetune"]), resumed=True)
    refit = settings.shifts == "refit"
    check_settings(settings, tuning.family, tuning.source_path)
    check_model(config, source, tuning.source_path, any_shifts=refit, any_switches=not tuning.resumed)
    if config.get("cutoff_radius") is not None:
        config.cutoff_radius = source.cutoff
    return tuning


def _describe(config: DictConfig, section: str, model: Potential, family: TunableFamily) -> None:
    """Write the model's arguments into the config, which is stored in checkpoints and model files."""
    node = {"_target_": f"{_BUILDERS}.{family.builders[0]}", **model.config["arguments"]}
    OmegaConf.update(config, section, node, merge=False)
    if config.get("chemical_species") is not None:
        config.chemical_species = list(model.type_names)


# --- species


def _choose_starts(rule: str | Mapping[str, str], new_types: list[str], tuning: FineTuning) -> dict[str, str | None]:
    """Choose for each new species the one that it begins as."""
    source_types, source_path = tuning.source.type_names, tuning.source_path
    if new_types and (why := tuning.family.no_new_species) is not None:
        raise ConfigError(
            f"the training data have {', '.join(new_types)}, which the model of {source_path} does not know and "
            f"cannot be taught: {why}",
            "leave these frames out, or train a new model",
        )
    if isinstance(rule, Mapping):
        _check_rule(rule, new_types, source_types, source_path)
        starts: dict[str, str | None] = {name: rule[name] for name in new_types if name in rule}
    else:
        starts = dict.fromkeys(new_types, MEAN) if rule == "mean" else {}
    if missing := [name for name in new_types if name not in starts]:
        raise ConfigError(
            f"the training data have {', '.join(missing)}, which the model of {source_path} does not know",
            f"say what it begins as: finetune.new_species={{{missing[0]}: X}} with X one of {', '.join(source_types)}, "
            "or finetune.new_species=mean; finetune.shifts=refit fits its energy to the data",
        )
    return starts


def _check_rule(rule: Mapping[str, str], new_types: list[str], source_types: list[str], source_path: str) -> None:
    for name, start in rule.items():
        if name in source_types:
            raise ConfigError(f"finetune.new_species names {name}, which {source_path} has already", "leave it out")
        if start not in source_types:
            raise ConfigError(
                f"finetune.new_species.{name} is '{start}', which is no species of {source_path}",
                f"{closest_hint(start, source_types)}its species are {', '.join(source_types)}",
            )
        if name not in new_types:
            raise ConfigError(f"finetune.new_species names {name}, which no training frame has", "leave it out")


def _check_no_new(data: DataModule, source: Potential, source_path: str) -> None:
    if new_types := data.type_names[len(source.type_names) :]:
        raise ConfigError(
            f"the training data have {', '.join(new_types)}, which {source_path} does not know",
            "go on with the data of the run, or begin another: finetune.source without ckpt_path and resume",
        )


# --- shifts


def _look_up_new_shifts(new_types: list[str], reference: ReferenceEnergies | None, refit: bool) -> dict[str, float]:
    """Look up the energy shift of each new species: its reference energy in the new data."""
    energies = {} if reference is None else reference.energies
    missing = [name for name in new_types if name not in energies]
    if missing and not refit:
        raise ConfigError(
            f"there is no reference energy of {', '.join(missing)}, which is to be its energy shift",
            "give data.reference_energies, or write finetune.shifts=refit",
        )
    return {name: energies.get(name, 0.0) for name in new_types}


def _fit_shift_changes(model: Potential, data: DataModule) -> ReferenceEnergies:
    """Fit what is added to the shifts, so that labels and model agree: least squares of energies per atom.

    Species that the data lack keep their shift. Where compositions do not tell species apart, all change by the mean.
    """
    frames = [frame for frame in data.train_set.frames if has_label(frame, fields.TOTAL_ENERGY)]
    if not frames:
        raise ConfigError("finetune.shifts is refit, but no training frame has an energy", "write finetune.shifts=keep")
    residuals = []
    for frame, prediction in zip(frames, Predictor(model).predict(frames), strict=True):
        residuals.append({**frame, fields.TOTAL_ENERGY: frame[fields.TOTAL_ENERGY] - prediction[fields.TOTAL_ENERGY]})
    data_species = species_of(frames)
    type_names = [name for name in model.type_names if name in data_species]
    try:
        return rules.fit_least_squares(residuals, type_names)
    except DataError as error:
        return rules.from_mean(residuals, type_names, f"because {error.message}")
