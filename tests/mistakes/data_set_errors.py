"""Wrong folders, arrays and archives that are refused, with what is said about each."""

# ruff: noqa: E501 (messages stand here as they are printed, in one line)

from __future__ import annotations

import io
import zipfile

import numpy as np

from tests.mistakes import Mistake
from tests.mistakes.data_files import file

PLACE = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) * np.linspace(1.0, 1.1, 6)[:, None, None]


def arrays(**changes: object) -> bytes:
    """Six frames of water as sGDML writes them."""
    stream = io.BytesIO()
    content = {"z": [8, 1, 1], "R": PLACE, "E": np.linspace(-300.0, -299.0, 6), "F": 0 * PLACE} | changes
    np.savez(stream, **{name: value for name, value in content.items() if value is not None})
    return stream.getvalue()


def system(**changes: str | bytes | None) -> dict[str, str | bytes]:
    """A system of DeePMD: the same frames."""
    files: dict[str, str | bytes | None] = {"type.raw": "1\n0\n0\n", "type_map.raw": "H\nO\n", "nopbc": ""}
    for name, array in {"coord": PLACE, "energy": np.linspace(-14.0, -13.9, 6), "force": 0 * PLACE}.items():
        stream = io.BytesIO()
        np.save(stream, array.reshape(6, -1))
        files[f"set.000/{name}.npy"] = stream.getvalue()
    files |= {name.replace("__", "."): content for name, content in changes.items()}
    return {f"water/{name}": content for name, content in files.items() if content is not None}


def archive(**files: str) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, text in files.items():
            packed.writestr(name.replace("__", "."), text)
    return stream.getvalue()


DATA_SET_ERRORS: tuple[Mistake, ...] = (
    Mistake(
        title="A system of DeePMD does not name its elements",
        example="data: {train: water}",
        error="water has no type_map.raw, so that nothing says which elements its types (0, 1) are",
        advice=r"write their symbols in the order of the types, one a line, into water/type_map.raw: printf 'O\nH\n' > water/type_map.raw",
        command="nequip-train",
        files=system(type_map__raw=None),
        overrides=("data.train=water", "data.val=2"),
    ),
    Mistake(
        title="The folder of several systems of DeePMD is given",
        example="data: {train: systems}",
        error="{folder}/systems is no data set itself, but holds 1: water",
        advice="give one, a list of them, or all by a pattern: systems/*",
        command="nequip-train",
        files={f"systems/{name}": content for name, content in system().items()},
        overrides=("data.train=systems", "data.val=2"),
    ),
    Mistake(
        title="A system of DeePMD without cells does not say that it is not periodic",
        example="data: {train: water}",
        error="water/set.000 has no box.npy, and its system no file nopbc",
        advice="for molecules, make an empty file: touch water/nopbc",
        command="DataModule",
        files=system(nopbc=None),
        settings={"train": "water"},
    ),
    Mistake(
        title="A data set of sGDML is in kcal/mol, as it says itself",
        example="data: {train: train.npz}",
        error="train.npz: its 'e_unit' says that 'E' is in kcal/mol, but it is read in eV, Angstrom, which is 23.0605 times as much",
        advice="declare it: 'data.units={energy: kcal/mol, forces: kcal/mol/Angstrom}'; or repair what the file says",
        command="nequip-train",
        files=file(arrays(e_unit="kcal/mol", r_unit="Ang"), name="train.npz"),
        overrides=("data.train=train.npz", "data.val=2"),
    ),
    Mistake(
        title="An .npz file holds no atomic numbers",
        example="data: {train: train.npz}",
        error="train.npz has no atomic numbers; its arrays are R, E, F",
        advice="save them as one of nuclear_charges, z, atomic_numbers, numbers",
        command="DataModule",
        files=file(arrays(z=None), name="train.npz"),
        settings={"train": "train.npz"},
    ),
    Mistake(
        title="An archive holds nothing that is read",
        example="data: {train: train.zip}",
        error="{folder}/train.zip holds no file of a format that is read (of 1)",
        advice="give an archive of such files; unpack it if it holds folders that are data sets",
        command="DataModule",
        files=file(archive(README__txt="Read me"), name="train.zip"),
        settings={"train": "train.zip"},
    ),
)
