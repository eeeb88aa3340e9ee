"""LAMMPS dumps: what they name, and what they do not."""

import numpy as np
import pytest

from nequip_like.data.graph import has_label
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError
from tests.data.format_samples import FORCES, dump

GOOD = dump(["O", "H", "H"], FORCES)


def without(column, text=GOOD):
    """The dump without one column."""
    head, _, body = text.partition("ITEM: ATOMS ")
    columns, *rows = body.splitlines()
    index = columns.split().index(column)

    def drop(line):
        return " ".join(word for i, word in enumerate(line.split()) if i != index)

    return f"{head}ITEM: ATOMS {drop(columns)}\n" + "".join(f"{drop(row)}\n" for row in rows)


def test_no_energy_is_made_up(write_text):
    (graph,) = read(write_text("a.lammpstrj", GOOD)).frames
    assert "total_energy" not in graph
    assert graph["atomic_numbers"].tolist() == [8, 1, 1]
    np.testing.assert_array_equal(graph["forces"], FORCES)


def test_types_are_no_elements(write_text):
    with pytest.raises(DataError) as error:
        read(write_text("a.lammpstrj", without("element")))
    assert error.value.message.endswith(
        "a.lammpstrj frame 0 does not name its elements: it has the columns id type x y z fx fy fz, and no type says "
        "which element it is"
    )
    assert "'dump_modify 1 element O H'" in error.value.advice


def test_elements_are_not_guessed_from_masses(write_text):
    text = without("element", GOOD.replace(" type ", " mass "))
    with pytest.raises(DataError, match="and no mass says which element it is"):
        read(write_text("a.lammpstrj", text))


def test_elements_beside_masses(write_text):
    (graph,) = read(write_text("a.lammpstrj", GOOD.replace(" type ", " mass "))).frames
    assert graph["atomic_numbers"].tolist() == [8, 1, 1]


def test_carbon_by_default_is_noted(write_text):
    text = GOOD.replace(" O ", " C ").replace("2 1 H", "2 2 C").replace("3 1 H", "3 2 C")
    (note,) = read(write_text("a.lammpstrj", text)).notes
    assert note.endswith(
        "a.lammpstrj: all its types are carbon (C), which LAMMPS writes where 'dump_modify ... element' was not given"
    )
    assert read(write_text("b.lammpstrj", GOOD.replace("H", "O").replace(" O ", " C "))).notes == []


@pytest.mark.parametrize("columns", ["id type element x y z", "id element xs ys zs", "element xu yu zu"])
def test_dumps_without_forces(write_text, columns):
    text = without("fz", without("fy", without("fx")))
    if "type" not in columns:
        text = without("type", text)
    if "id" not in columns:
        text = without("id", text)
    head = text.partition("ITEM: ATOMS ")[2].partition("\n")[0]
    (graph,) = read(write_text("a.lammpstrj", text.replace(f"ITEM: ATOMS {head}", f"ITEM: ATOMS {columns}"))).frames
    assert not has_label(graph, "forces")
    assert not has_label(graph, "total_energy")
    expected = sorted([0.0, 0.96, -0.24]) if "xs" not in columns else sorted([0.0, 0.96 * 5.0, -0.24 * 5.0])
    np.testing.assert_allclose(sorted(graph["pos"][:, 0].tolist()), expected, atol=1e-12)


def test_frames_of_other_sizes(write_text):
    """The number of atoms may change, as when atoms evaporate; the species go with it."""
    lines = GOOD.splitlines(keepends=True)
    smaller = "".join(lines[:-1]).replace("ITEM: NUMBER OF ATOMS\n3", "ITEM: NUMBER OF ATOMS\n2")
    first, second = read(write_text("a.lammpstrj", GOOD + smaller)).frames
    assert first["num_atoms"].item() == 3
    assert second["atomic_numbers"].tolist() == [8, 1]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (GOOD[: GOOD.rindex("2 1 H")], 2),  # a whole row is missing
        (GOOD.replace("ITEM: NUMBER OF ATOMS\n3", "ITEM: NUMBER OF ATOMS\n2"), 3),
        (GOOD[: GOOD.index("ITEM: ATOMS")], 0),
        (GOOD[: GOOD.index("ITEM: BOX")] + GOOD, 0),
    ],
)
def test_frames_that_are_not_whole(write_text, text, whole):
    with pytest.raises(DataError, match=rf"a\.lammpstrj frame 0 is cut off or joined: .* has {whole} whole rows"):
        read(write_text("a.lammpstrj", text))


def test_units_that_a_dump_states(write_text):
    real = "ITEM: UNITS\nreal\n" + GOOD
    with pytest.raises(DataError) as error:
        read(write_text("a.lammpstrj", real))
    assert "its 'ITEM: UNITS real' says that 'forces' is in kcal/mol/Angstrom" in error.value.message
    (graph,) = read(write_text("a.lammpstrj", real), units={"energy": "kcal/mol"}).frames
    assert graph["forces"][0, 0].item() == pytest.approx(0.125 * 0.0433641043, rel=1e-7)
    (graph,) = read(write_text("b.lammpstrj", "ITEM: UNITS\nmetal\n" + GOOD)).frames
    assert graph["forces"][0, 0].item() == 0.125


@pytest.mark.parametrize(
    "text",
    [
        ("ITEM: TIME\n0.5\n" + GOOD) * 2,
        "ITEM: UNITS\nmetal\n" + GOOD + "ITEM: UNITS\nmetal\nITEM: TIME\n1\n" + GOOD,
        GOOD + GOOD + "\n \n",
        GOOD + "\n" + GOOD,
        GOOD.replace("ITEM: NUMBER", "ITEM: LABEL\nrun 7\nITEM: NUMBER") + GOOD,
    ],
)
def test_other_items_and_empty_lines(write_text, text):
    first, second = read(write_text("a.lammpstrj", text)).frames
    for graph in (first, second):
        assert graph["atomic_numbers"].tolist() == [8, 1, 1]
        np.testing.assert_array_equal(graph["forces"], FORCES)


def test_an_empty_line_between_rows_is_refused(write_text):
    with pytest.raises(DataError, match="frame 0 is cut off or joined"):
        read(write_text("a.lammpstrj", GOOD.replace("2 1 H", "\n2 1 H")))


@pytest.mark.parametrize(
    ("symbol", "advice"),
    [("CU", "write Cu, as"), ("Cu1", "write symbols such as Cu, as"), ("1", "write symbols such as Cu, as")],
)
def test_symbols_that_are_none(write_text, symbol, advice):
    with pytest.raises(DataError) as error:
        read(write_text("a.lammpstrj", GOOD + GOOD.replace(" O ", f" {symbol} ")))
    assert error.value.message.endswith(
        f"a.lammpstrj frame 1: '{symbol}' in its column 'element' is no chemical symbol"
    )
    assert error.value.advice.startswith(advice)


@pytest.mark.parametrize("style", ["si", "cgs", "micro", "nano", "lj", "furlong"])
def test_units_that_are_not_electronvolts(write_text, style):
    with pytest.raises(DataError) as error:
        read(write_text("a.lammpstrj", f"ITEM: UNITS\n{style}\n{GOOD}"))
    assert error.value.message.endswith(f"a.lammpstrj: its 'ITEM: UNITS {style}' is not eV and Angstrom")


def test_reduced_units_are_read_as_declared(write_text):
    file = write_text("a.lammpstrj", "ITEM: UNITS\nlj\n" + GOOD)
    (graph,) = read(file, units={"energy": "meV", "length": "nm"}).frames
    assert graph["forces"][0, 0].item() == pytest.approx(0.125e-4, rel=1e-12)
    si = write_text("b.lammpstrj", "ITEM: UNITS\nsi\n" + GOOD)
    with pytest.raises(DataError, match="'ITEM: UNITS si' is not eV and Angstrom"):
        read(si, units={"energy": "meV", "length": "nm"})


def test_units_that_change_within_a_file(write_text):
    text = "ITEM: UNITS\nmetal\n" + GOOD + "ITEM: UNITS\nreal\n" + GOOD
    with pytest.raises(DataError, match="has frames in units metal and real"):
        read(write_text("a.lammpstrj", text))


def test_an_atom_that_stands_twice(write_text):
    with pytest.raises(DataError) as error:
        read(write_text("a.lammpstrj", GOOD.replace("\n3 1 H", "\n2 1 H")))
    assert error.value.message.endswith("a.lammpstrj frame 0: 2 of its rows have the id 2")
