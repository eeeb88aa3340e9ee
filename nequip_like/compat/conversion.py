"""A model of this or another package into another form, and any of them as a potential."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nequip_like.artifacts import write_artifacts
from nequip_like.compat.aenet import read_aenet_potential, write_aenet_potential
from nequip_like.compat.nequip_models import export_to_nequip, import_nequip_model
from nequip_like.compat.nequip_models.checkpoints import ForeignFileError
from nequip_like.compat.nequip_models.exporting import name_example
from nequip_like.compat.nequip_models.packages import SUFFIX as PACKAGE_SUFFIX
from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.inference import model_file
from nequip_like.inference.loading import carry_card, load_any
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.whole_files import check_absent, path_of

Form = Literal["model", "artifacts", "nequip", "aenet"]
FORMS: tuple[str, ...] = get_args(Form)
_AENET_SUFFIX = ".nn.ascii"


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        files: The files, or the folder.
        potential: The model that was read.
        differences: How far another package's predictions are from the potential's, by quantity, as shares of the
            largest number of its kind; empty where that package was not asked.
        notes: What was left out.
    """

    files: list[Path]
    potential: Potential
    differences: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_any_model(
    source: str | Path, nequip_python: str | Path | None = None, families: Families | None = None
) -> tuple[Potential, dict[str, Any]]:
    """Read a potential from a file of this package, of NequIP or of aenet.

    Nothing in a file is run, unless ``nequip_python`` says that NequIP itself is to open it.

    Args:
        source: A model file, a checkpoint, a run folder or artifacts; a checkpoint or package of NequIP's; a network of
            aenet's or the folder of networks.
        nequip_python: An interpreter that has NequIP: it opens the file, which has to be one of NequIP's.
        families: As for :func:`~nequip_like.inference.model_file.read_model`.

    Returns:
        The potential, in evaluation mode, and its card with ``path``, the file that was read.

    Raises:
        ModelFileError: If there is no such file, or it cannot be read.
        ConfigError: If there is no such interpreter, or it has no NequIP.
    """
    path = path_of(source)
    if nequip_python is not None or path.name.endswith(PACKAGE_SUFFIX):
        potential, card = import_nequip_model(path, nequip_python)
        return potential, {**card, "path": str(path)}
    if path.name.endswith(_AENET_SUFFIX) or (path.is_dir() and any(path.glob(f"*{_AENET_SUFFIX}"))):
        potential = read_aenet_potential(path)
        origin = {"path": str(path.absolute()), "package": "aenet"}
        return potential, {"provenance": {"imported_from": origin}, "path": str(path)}
    try:
        return load_any(path, families=families)
    except ModelFileError as error:
        if not path.is_file():
            raise
        own_error = error
    try:
        potential, card = import_nequip_model(path)
    except ForeignFileError:  # none of NequIP's either: what is wrong with it as one of ours says more
        raise own_error from None
    return potential, {**card, "path": str(path)}


def convert_model(
    source: str | Path,
    output: str | Path,
    form: Form = "model",
    *,
    nequip_python: str | Path | None = None,
    card: Mapping[str, Any] | None = None,
    families: Families | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Read a model and write it in another form.

    Args:
        source: As for :func:`read_any_model`.
        output: The file, or the folder for artifacts and aenet's networks.
        form: ``model``: one ``.safetensors`` file; ``artifacts``: a folder with a manifest; ``nequip``: a checkpoint or
            a package of NequIP's; ``aenet``: a network for each species.
        nequip_python: An interpreter that has NequIP. To read, it is optional: then NequIP opens the file, and its
            predictions are compared. To write for NequIP it is needed.
        card: What else to tell of the model: ``licence``, ``notes``, ...
        families: As for :func:`~nequip_like.inference.model_file.read_model`.
        overwrite: Whether a file that is there, or a folder that holds something, is written to.

    Raises:
        ConfigError: If there is no such form or interpreter.
        ModelError: If the model cannot have this form.
        ModelFileError: If it cannot be read.
        OutputError: If it is there already, or cannot be written.
    """
    if form not in FORMS:
        raise ConfigError(f"there is no form '{form}' of a model", f"give one of {', '.join(FORMS)}")
    path, target = path_of(source), path_of(output)
    if target.exists() and path.exists() and target.samefile(path):
        raise ConfigError(f"{target} is both what is read and what is written", "give another name")
    check_absent(target, overwrite)
    potential, told = read_any_model(path, None if form == "nequip" else nequip_python, families)
    differences = told.get("provenance", {}).get("compared_with_nequip") or {}
    if form == "nequip":
        notes = ["its uncertainty is left out: NequIP has none"] if potential.uncertainty is not None else []
        found = export_to_nequip(potential, target, nequip_python)
        example = name_example(target)
        written = [target] if example is None else [target, example]
        return Conversion(written, potential, found, notes)
    if form == "aenet":
        return Conversion(list(write_aenet_potential(potential, target).values()), potential)
    kept = carry_card(told) | dict(card or {})
    if form == "artifacts":
        return Conversion([write_artifacts(potential, target, card=kept, source=told["path"])], potential, differences)
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target} is to be a model file", "give a name that ends in .safetensors")
    model_file.save(potential, target, kept)
    return Conversion([target], potential, differences)
