"""Training from a notebook: structures, of files or in memory, and a config with changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nequip_like.arguments import check_known_keys
from nequip_like.composition.compose import compose
from nequip_like.data.io.given import entries
from nequip_like.data.io.readers import Source, read
from nequip_like.errors import ConfigError
from nequip_like.notebook.trained import TrainedPotential
from nequip_like.report.labelled_files import write_labelled
from nequip_like.summaries import Summarized
from nequip_like.whole_files import output_errors, path_of
from nequip_like.workflow.train import name_folder_of, train

_STRUCTURES = "structures"  # folder in that of the run: what was given in memory
Layers = Sequence[Sequence[Any]]


def train_potential(
    structures: Source,
    overrides: Sequence[str] = (),
    config: str | Path | DictConfig = "train",
    *,
    val: Source | float | None = None,
    test: Source | float | None = None,
    output: str | Path | None = None,
) -> TrainedPotential:
    """Train a potential of any family on structures, as ``nequip-train`` does.

    Structures in memory are written into the folder of the run first (``structures/train.extxyz``), so that it can be
    repeated and resumed.

    Args:
        structures: Labelled structures: files, ``Atoms`` or graphs, one or many.
        overrides: Changes of the config, as for :func:`~nequip_like.composition.compose.compose`.
        config: A config's name or file, or one that was composed.
        val: Validation: structures, or a number or share of those above; that of the config by default.
        test: The same for the test.
        output: Folder of the run; a new one by default.

    Returns:
        The potential with the weights of the best validation.

    Raises:
        NequipLikeError: As :func:`~nequip_like.workflow.train.train`; if the run is stopped before there is a model.

    Example::

        trained = nl.train_potential(frames, ["cutoff_radius=5.0", "trainer.max_epochs=50"], val=0.1)
        trained.errors
    """
    settings = config.copy() if isinstance(config, DictConfig) else compose(config, overrides)
    if isinstance(config, DictConfig) and overrides:
        raise ConfigError("overrides are given beside a composed config", "give them to compose, or set its keys")
    if output is not None:
        settings.output_dir = str(path_of(output).absolute())
    given: dict[str, Any] = {"train": structures, "val": val, "test": test}
    # What can be gone through once only, as ase.io.iread gives it, is looked at more often here.
    given = {name: list(source) if isinstance(source, Iterator) else source for name, source in given.items()}
    if any(_is_in_memory(source) for source in given.values()):
        settings.output_dir = str(name_folder_of(settings))
    for name, source in given.items():
        if source is not None:
            value = source if isinstance(source, int | float) else _name_files(source, name, settings)
            OmegaConf.update(settings, f"data.{name}", value)
    result = train(settings)
    if result.model_file is None:
        raise ConfigError("the run made no model", "let its tasks contain train: run=[train]")
    return TrainedPotential(result.model_file, result=result)


def _is_in_memory(source: Source | float | None) -> bool:
    if source is None or isinstance(source, int | float | str | Path):
        return False
    return not all(isinstance(member, str | Path) for member in entries(source))


def _name_files(source: Source, name: str, settings: DictConfig) -> str | list[str]:
    """The files of a source; structures in memory become one."""
    if isinstance(source, str | Path):
        return str(source)
    members = entries(source, name)
    if not members:
        raise ConfigError(f"{name}: there are no structures", "give files, or Atoms with labels")
    if not _is_in_memory(source):
        return [str(member) for member in members]
    path = Path(str(settings.output_dir)) / _STRUCTURES / f"{name}.extxyz"
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_labelled(read(members), path)
    return str(path)


_DESCRIPTOR = {
    "species": "chemical_species",
    "rad_order": "model.radial_order",
    "rad_cutoff": "model.radial_cutoff",
    "ang_order": "model.angular_order",
    "ang_cutoff": "model.angular_cutoff",
    "min_cutoff": "model.min_cutoff",
}


class DescriptorPotential(Summarized):
    """A descriptor network before it is trained, said as aenet does: architecture and descriptor.

    Args:
        arch: Hidden layers of each species, ``{"Ti": [(15, "tanh"), (15, "tanh")], "O": [...]}``, or one list for all.
        descriptor: ``species``, ``rad_order``, ``rad_cutoff``, ``ang_order``, ``ang_cutoff`` and, if one likes,
            ``min_cutoff`` (Angstrom).

    Raises:
        ConfigError: If the descriptor lacks a cutoff, or has a key that is not known.

    Example::

        descriptor = {"species": ["Ti", "O"], "rad_order": 20, "rad_cutoff": 6.5, "ang_order": 6, "ang_cutoff": 5.0}
        trained = nl.DescriptorPotential([(15, "tanh"), (15, "tanh")], descriptor).train("set/*.xsf", val=0.1)
        trained.to_aenet_ascii("for-aenet", prefix="tio2")
    """

    def __init__(self, arch: Mapping[str, Layers] | Layers, descriptor: Mapping[str, Any]) -> None:
        check_known_keys("descriptor", descriptor, _DESCRIPTOR)
        for key in ("species", "rad_cutoff", "ang_cutoff"):
            if key not in descriptor:
                raise ConfigError(f"descriptor has no '{key}'", f"give {', '.join(_DESCRIPTOR)}")
        self.networks = (
            {name: _list_layers(layers) for name, layers in arch.items()}
            if isinstance(arch, Mapping)
            else _list_layers(arch)
        )
        self.descriptor = dict(descriptor)

    def summary(self) -> dict[str, Any]:
        """Architecture and descriptor."""
        return {"networks": self.networks, **self.descriptor}

    def make_config(self, overrides: Sequence[str] = (), config: str | Path = "train") -> DictConfig:
        """The config of its training.

        Args:
            overrides: Changes, as for :func:`~nequip_like.composition.compose.compose`.
            config: A config's name or file.

        Raises:
            ConfigError: As :func:`~nequip_like.composition.compose.compose`.
        """
        settings = compose(config, ["model=descriptor_ann", *overrides])
        for key, value in self.descriptor.items():
            OmegaConf.update(settings, _DESCRIPTOR[key], list(value) if key == "species" else value)
        settings.cutoff_radius = max(self.descriptor["rad_cutoff"], self.descriptor["ang_cutoff"])
        settings.model.networks = self.networks
        return settings

    def train(
        self, structures: Source, overrides: Sequence[str] = (), config: str | Path = "train", **options: Any
    ) -> TrainedPotential:
        """Train it.

        Args:
            structures: As for :func:`train_potential`.
            overrides: As there.
            config: As there.
            **options: ``val``, ``test`` and ``output``, as there.

        Raises:
            NequipLikeError: As :func:`train_potential`.
        """
        return train_potential(structures, config=self.make_config(overrides, config), **options)


def _list_layers(layers: Layers) -> list[list[Any]]:
    return [list(layer) for layer in layers]
