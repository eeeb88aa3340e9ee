"""What ASE's reader of extended XYZ would pass over in silence."""

from pathlib import Path

import pytest

from nequip_like.data.io.extxyz import check_text
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError

ROWS = "O 0 0 0\nH 1 0 0\n"
FRAME = "2\nenergy=1\n" + ROWS
HERE = Path("a.xyz")


@pytest.mark.parametrize(
    "text",
    [
        FRAME,
        FRAME + FRAME,
        FRAME + "\n \n",
        FRAME.removesuffix("\n"),
        "2\n\n" + ROWS,
        "2\nH2O H2O water\n" + ROWS,
        '2\nenergy=1 note="energy=2 energy=3" Lattice="1 0 0 0 1 0 0 0 1"\n' + ROWS,
        "2\nenergy=1 a={energy=2} b=[1, 2]\n" + ROWS,
        FRAME + "VEC1 1 0 0\nVEC2 0 1 0\nVEC3 0 0 1\n" + FRAME,
        "2\nProperties=Z:I:1:pos:R:3\n8 0 0 0\n1 0 0 1\n",
        "2\nenergy=1 name=5'-GMP\n" + ROWS,
        "2\nBob's run\n" + ROWS,
        '2\nnote="it\'s good" energy=1\n' + ROWS,
        "2\nsmiles=C[C@H](O)N path=C:\\data energy=1\n" + ROWS,
        "2\nname=O'Neill's energy=1\n" + ROWS,
        '2\nname="a \\"b\\" = c" energy=1\n' + ROWS,
        "",
    ],
)
def test_nothing_to_say(text):
    assert check_text(text, HERE) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FRAME + "\n" + FRAME, "a.xyz: line 5 is empty, but more follows, which would not be read"),
        (
            FRAME + "3\nenergy=1\n" + ROWS,
            "a.xyz frame 1 is cut off: it says 3 atoms (line 5), but the file ends after 2",
        ),
        (FRAME + "2\n", "a.xyz frame 1 is cut off: it says 2 atoms (line 5), but the file ends after 0"),
        ("-2\n\n", "a.xyz: line 1 is '-2', where frame 0 must begin with its number of atoms"),
        ("٢\n\n" + ROWS, "a.xyz: line 1 is '٢', where frame 0 must begin with its number of atoms"),
        ("0\nenergy=1\n" + FRAME, "a.xyz: line 1 is '0', where frame 0 must begin with its number of atoms"),
        ("2\nenergy=1 energy=2\n" + ROWS, "a.xyz frame 0: the key 'energy' stands twice in line 2"),
        ("2\nPBC='T T T'\n" + ROWS, "a.xyz frame 0: 'PBC' in line 2 would not be read"),
        ("2\nproperties=species:S:1:pos:R:3\n" + ROWS, "a.xyz frame 0: 'properties' in line 2 would not be read"),
        ("2\nProperties=species:S:1:pos:R\n" + ROWS, "Properties=species:S:1:pos:R cannot be understood"),
        ("2\nProperties=species:S:1:pos:R:0\n" + ROWS, "Properties=species:S:1:pos:R:0 cannot be right"),
        ("2\nProperties=species:S:1:pos:R:3:pos:R:3\n" + ROWS, "Properties names the column 'pos' twice"),
        (
            '2\nname=5\'-GMP energy=-10.5 pbc="F F F"\n' + ROWS,
            "a.xyz frame 0: the ' in name=5'-GMP (line 2) joins it with what follows, so that energy, pbc would not be "
            "read",
        ),
        ('2\nsize=2" energy=1\n' + ROWS, 'the " in size=2" (line 2) joins it with what follows, so that energy'),
        ("2\na=5' b=3' energy=1\n" + ROWS, "the ' in a=5' (line 2) joins it with what follows, so that b, energy"),
        ("2\nname=[Cu energy=1\n" + ROWS, "the [ in name=[Cu (line 2) joins it with what follows, so that energy"),
        ("2\nBob's energy=1\n" + ROWS, "the ' in Bob's (line 2) joins it with what follows, so that energy"),
        ("2\nnote=a\\ energy=1\n" + ROWS, "the \\ in note=a\\ (line 2) joins it with what follows, so that energy"),
        ("2\n\nO 0 0\nH 1 0 0\n", "a.xyz frame 0: the row of atom 0 (line 3) has 3 columns, but Properties names 4"),
    ],
)
def test_errors(text, message):
    with pytest.raises(DataError) as error:
        check_text(text, HERE)
    assert message in error.value.message
    assert error.value.advice


def test_notes_are_counted():
    text = FRAME + "2\nenergy=1\nO 0 0 0 9\nH 1 0 0 9\n" * 2
    assert check_text(text, HERE) == [
        "a.xyz: its rows have more columns than Properties names; the rest is not read (2 frames, first: frame 1)"
    ]
    assert check_text("2\ncell='1 0 0'\n" + ROWS, HERE) == [
        "a.xyz: 'cell' is not read as a cell, which has to be called Lattice (1 frames, first: frame 0)"
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [("5'-GMP", '"5\'-GMP"'), ('2"', "'2\"'"), ("[Cu", '"Cu"'), ("a\\", '"a\\\\"'), ('"abc', '"abc"')],
)
def test_the_advised_spelling_is_read_right(tmp_path, value, written):
    with pytest.raises(DataError) as error:
        check_text(f"2\nname={value} energy=-10.5\n{ROWS}", HERE)
    assert error.value.advice == f"write name={written}"
    (tmp_path / "a.xyz").write_text(f"2\nname={written} energy=-10.5\n{ROWS}")
    assert read(tmp_path / "a.xyz").frames[0]["total_energy"].item() == -10.5


CELL = 'Lattice="5 0 0 0 6 0 0 0 7"'


@pytest.mark.parametrize(
    ("spelling", "periodic"),
    [
        ('"T F T"', [True, False, True]),
        ("T", [True, True, True]),
        ("F", [False, False, False]),
        ('"True False False"', [True, False, False]),
        ('"true false true"', [True, False, True]),
        ('"TRUE FALSE FALSE"', [True, False, False]),
        ('"1 0 0"', [True, False, False]),
        ("0", [False, False, False]),
        ('"1.0 0.0 1.0"', [True, False, True]),
        ('"T,T,F"', [True, True, False]),
        ("[T, F, F]", [True, False, False]),
        ("{T F F}", [True, False, False]),
        ("'F F T'", [False, False, True]),
        ('"_JSON [true, false, false]"', [True, False, False]),
    ],
)
def test_spellings_of_pbc(write_text, spelling, periodic):
    (graph,) = read(write_text("a.xyz", f"2\n{CELL} pbc={spelling} energy=1\n{ROWS}")).frames
    assert graph["pbc"][0].tolist() == periodic


@pytest.mark.parametrize(
    "spelling",
    [
        '"TFF"',
        '"yes no no"',
        '"p p f"',
        "None",
        '"t f f"',
        '""',
        '"T F"',
        '"T 0 0"',
        '"(True, False, False)"',
        '"2 0 0"',
    ],
)
def test_spellings_of_pbc_that_would_be_taken_for_all_three(spelling):
    with pytest.raises(DataError) as error:
        check_text(f"2\n{CELL} pbc={spelling} energy=1\n{ROWS}", HERE)
    assert error.value.message == f"a.xyz frame 0: pbc={spelling} in line 2 cannot be understood"
    assert error.value.advice == (
        'write pbc="T T T", or F for a lattice vector along which it is not periodic, such as pbc="T F F"'
    )


@pytest.mark.parametrize(
    ("stress", "shown"),
    [
        ("1 .5 0 0 2 0 0 0 3", "[[1.0, 0.5, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]"),
        ("1 2 3 4 5 6 7 8 9", "[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]"),
        ("1,0,.5,0,2,0,0,0,3", "[[1.0, 0.0, 0.5], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]"),
    ],
)
@pytest.mark.parametrize("quotes", ['""', "''", "[]", "{}"])
def test_a_stress_that_is_not_symmetric(stress, shown, quotes):
    with pytest.raises(DataError) as error:
        check_text(f"2\n{CELL} stress={quotes[0]}{stress}{quotes[1]}\n{ROWS}", HERE)
    assert error.value.message == f"a.xyz frame 0: 'stress' is not symmetric: {shown}"
    assert error.value.advice == "check the order of its components"


def test_a_stress_that_is_symmetric_but_for_rounding(write_text):
    (graph,) = read(write_text("a.xyz", f'2\n{CELL} stress="1 .5 0 .5001 2 0 0 0 3"\n{ROWS}')).frames
    assert graph["stress"][0, 0, 1].item() == pytest.approx(0.5, abs=1e-3)
    assert check_text(f'2\n{CELL} stress="nan nan nan nan nan nan nan nan nan"\n{ROWS}', HERE) == []
