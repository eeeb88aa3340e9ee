"""Write the reference pages that follow from tables in the code: ``docs/reference/fields.md``.

Run it after a change of the table of fields or of the names that files may use::

    python docs/make_reference.py
"""

from __future__ import annotations

from pathlib import Path

from nequip_like.data.fields import EDGE_INDEX, FIELDS, LABELS, Field
from nequip_like.data.labels.names import WELL_KNOWN, WELL_KNOWN_PER_ATOM

PAGE = Path(__file__).parent / "reference" / "fields.md"

_HEAD = """\
# Fields

<!-- Written by docs/make_reference.py from nequip_like/data/fields.py and labels/names.py. Do not edit. -->

A structure is a `dict[str, Tensor]`, and so is a batch of structures. Each key has one row here. In a batch, the rows
of graphs, atoms (nodes) or edges of all structures are joined along the first dimension. *Rotation* says how the value
turns with the structure. Values in files are converted to these units; see `data.units` in
[configuration](configuration.md).

"""

_NAMES = """
## Names in files

These names are found without being declared. Upper and lower case are the same, and so are `-` and `_`. If a file has
two names for one label, it is an error that asks for `data.key_mapping`.

| label | belongs to | names in a file |
|---|---|---|
"""

_TAIL = """
`free_energy` stands for `total_energy` where a file has no other name for it; of files with both, see
[energies with smearing](configuration.md#energies-with-smearing). A label with one row per atom is looked
up among the arrays of the file, the others among the values of its comment line; `weight` may be either. Results of
a stored ASE calculator count as values of the file. A `virial` is read as `stress = -virial / volume`.

## Weights

A weight of a frame multiplies its part in every term of the loss and in all errors, one of a label where that label is
compared. Sums are divided by the sum of the weights: weights weigh frames against each other, and weights that are all
the same change nothing. **A label of weight 0 is missing in its frame**, in the reference energies and statistics, too.
`config_weight`, `config_energy_weight` and the like are MACE's names. GAP's `energy_sigma`, `force_sigma` and
`virial_sigma` are not read, and are named in a warning.
"""

_COUNTS = {"graph": "graphs", "node": "atoms", "edge": "edges"}


def page() -> str:
    """The whole text of ``docs/reference/fields.md``."""
    return _HEAD + _fields() + _NAMES + _names() + _TAIL


def _fields() -> str:
    lines = ["| key | shape | unit | type | rotation | label | meaning |", "|---|---|---|---|---|---|---|"]
    lines += [_row(row) for row in FIELDS.values()]
    return "\n".join(lines) + "\n"


def _row(row: Field) -> str:
    shape = ", ".join([_COUNTS[row.owner], *map(str, row.shape)])
    if row.name == EDGE_INDEX:
        shape = "2, edges"
    dtype = str(row.dtype).removeprefix("torch.")
    label = "yes" if row.label else ""
    return f"| `{row.name}` | ({shape}) | {row.unit} | {dtype} | {row.character} | {label} | {row.description} |"


def _names() -> str:
    owners = {label: FIELDS[label].owner for label in (*LABELS, *WELL_KNOWN.values())}
    lines = []
    for label, owner in owners.items():
        table = WELL_KNOWN_PER_ATOM if owner == "node" else WELL_KNOWN
        names = ", ".join(f"`{name}`" for name, meant in table.items() if meant == label)
        lines.append(f"| `{label}` | {'each atom' if owner == 'node' else 'the structure'} | {names} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
