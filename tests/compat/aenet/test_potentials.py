"""aenet's networks: energies of its own, and what is written gives the same energies again."""

from pathlib import Path

import ase.io
import pytest
import torch

from nequip_like.compat.aenet import (
    find_energy_scaling,
    read_aenet_potential,
    write_aenet_committee,
    write_aenet_potential,
)
from nequip_like.compat.aenet.nn_ascii import read_nn_ascii
from nequip_like.errors import ModelError, ModelFileError
from nequip_like.inference import load, save
from nequip_like.model import DescriptorANNModel, NequIPGNNModel
from nequip_like.model.committee import CommitteePotential
from nequip_like.testing.structures import crystal, graph_of, predict

FORTRAN = Path(__file__).parents[4] / "shared" / "data" / "tio2_aenet" / "fortran"
with_references = pytest.mark.skipif(not FORTRAN.is_dir(), reason="the shared data sets are not here")
SIZE = 14


def build(**changes):
    stats = {
        name: {"mean": [3.0 + number] * SIZE, "std": [0.5] * (SIZE - 2) + [0.0, 1e-9], "count": 7.0}
        for number, name in enumerate(["H", "C", "O"])
    }
    arguments = {
        "type_names": ["H", "C", "O"],
        "r_max": 3.5,
        "angular_cutoff": 3.0,
        "radial_order": 3,
        "angular_order": 2,
        "networks": {"H": [[4, "tanh"], [3, "twist"]], "C": [], "O": [[2, "mtanh"], [3, "sigmoid"], [2, "linear"]]},
        "model_dtype": "float64",
        "feature_stats": stats,
        "E_shift": -4.0,
        "E_scaling": 0.7,
        "per_type_energy_shifts": {"H": -13.0, "C": -1000.0, "O": -2000.0},
    }
    potential = DescriptorANNModel(**{**arguments, **changes}).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for network in potential.energy_model.networks.each:
            for bias in network.biases:
                bias += torch.randn(bias.shape, generator=generator, dtype=bias.dtype)
    return potential


@pytest.mark.parametrize("isolated", ["learnt", "exact"])
def test_what_is_written_gives_the_same_energies(tmp_path, isolated):
    potential = build(isolated_atoms=isolated)
    files = write_aenet_potential(potential, tmp_path / "nets", "water", min_distance=0.4, structures=5)
    assert [path.name for path in files.values()] == ["water.H.nn.ascii", "water.C.nn.ascii", "water.O.nn.ascii"]
    again = read_aenet_potential(tmp_path / "nets")
    expected, found = predict(potential, crystal()), predict(again, crystal())
    assert float(expected["forces"].abs().max()) > 1.0
    for name in ("atomic_energy", "forces", "stress"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-8)
    network = read_nn_ascii(files["O"])
    assert network.activations == ["mtanh", "sigmoid", "linear"]
    assert (network.min_distance, network.structures, network.atoms, network.evaluations) == (0.4, 5, 21, 7)
    assert (network.radial, network.angular) == ((3.5, 3), (3.0, 2))
    assert network.environment == ["H", "C", "O"]
    assert network.energy_range == pytest.approx((-4.0 - 1 / 0.7, -4.0 + 1 / 0.7, -4.0))


def test_wrapped_lines_and_fortran_exponents(tmp_path):
    files = write_aenet_potential(build(), tmp_path)
    expected = predict(read_aenet_potential(list(files.values())), crystal())["total_energy"]
    for path in files.values():
        lines = path.read_text().splitlines()
        lines = [
            "\n".join(" ".join(line.split()[i : i + 5]) for i in range(0, max(1, len(line.split())), 5))
            if line.split()[0].lstrip("-")[0].isdigit()
            else line
            for line in lines
        ]
        path.write_text(
            "\n".join(lines).replace("e-", "D-").replace("$$", "\nsecond line $$").replace("\nT\n", "\n True\n")
        )
    assert torch.equal(predict(read_aenet_potential(tmp_path), crystal())["total_energy"], expected)


def test_energies_that_are_not_normalized(tmp_path):
    path = write_aenet_potential(build(), tmp_path)["O"]
    path.write_text(path.read_text().replace("\nT\n", "\nF\n"))
    network = read_nn_ascii(path)
    assert (network.energy_scaling, network.energy_shift) == (1.0, 0.0)


def test_files_that_cannot_be(tmp_path):
    files = write_aenet_potential(build(), tmp_path)
    with pytest.raises(ModelFileError, match="networks for H, C, but the species are H, C, O"):
        read_aenet_potential([files["H"], files["C"]])
    with pytest.raises(ModelFileError, match="second network for H"):
        read_aenet_potential([files["H"], files["H"]])
    other = write_aenet_potential(build(angular_cutoff=2.5), tmp_path / "other")
    with pytest.raises(ModelFileError, match="networks for H and O have other descriptors"):
        read_aenet_potential([files["H"], files["C"], other["O"]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"no \*.nn.ascii"):
        read_aenet_potential(tmp_path / "empty")
    with pytest.raises(ModelFileError, match=r"absent\.nn\.ascii cannot be read"):
        read_aenet_potential(tmp_path / "absent.nn.ascii")
    lines = files["O"].read_text().splitlines()
    for text, message in (
        ("\n".join(lines[:20]), "ends before"),
        ("\n".join(lines).replace("Chebyshev\n", "LJ\n"), "its descriptor is LJ"),
        ("\n".join(lines).replace(lines[8], " ".join([*lines[8].split()[:-1], "x"])), "the weights"),
        ("\x00\xff", "ends before|cannot be read|number of layers"),
    ):
        files["O"].write_text(text)
        with pytest.raises(ModelFileError, match=message):
            read_nn_ascii(files["O"])


def test_other_families_are_refused(tmp_path):
    tiny = {"r_max": 3.0, "num_layers": 1, "num_features": 2, "avg_num_neighbors": 1.0, "kernel": "reference"}
    with pytest.raises(ModelError, match="family 'nequip' cannot be written for aenet"):
        write_aenet_potential(NequIPGNNModel(type_names=["H"], **tiny), tmp_path)


@with_references
def test_energies_of_the_fortran_code(tmp_path):
    """Structures 001 to 003 of TiO2, as predict.x prints them with eight decimals; also through a model file."""
    potential = read_aenet_potential([FORTRAN / "Ti.nn.ascii", FORTRAN / "O.nn.ascii"])
    text = (FORTRAN / "predict.out").read_text()
    expected = {
        kind: [float(line.split(":")[1].split()[0]) for line in text.splitlines() if line.strip().startswith(kind)]
        for kind in ("Cohesive energy", "Total energy")
    }
    assert expected["Cohesive energy"][0] == -192.78242329
    save(potential, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    write_aenet_potential(potential, tmp_path / "written")
    rewritten = read_aenet_potential(tmp_path / "written")
    frames = ase.io.read(FORTRAN.parent / "tio2.xyz", ":")
    frames = [next(f for f in frames if f.info["file"] == f"structure-00{number}.xsf") for number in (1, 2, 3)]
    shifts = potential.config["arguments"]["per_type_energy_shifts"]
    for atoms, cohesive, total in zip(frames, expected["Cohesive energy"], expected["Total energy"], strict=True):
        graph = graph_of(atoms, potential)
        energy = float(predict(potential, graph)["total_energy"])
        alone = sum(shifts[symbol] for symbol in atoms.get_chemical_symbols())
        assert energy == pytest.approx(total, abs=1.1e-8)
        assert energy - alone == pytest.approx(cohesive, abs=1.1e-8)
        assert float(predict(again, graph)["total_energy"]) == energy
        assert float(predict(rewritten, graph)["total_energy"]) == pytest.approx(energy, abs=1e-9)


def test_a_committee_is_written_member_by_member(tmp_path):
    committee = CommitteePotential([build(), build(E_shift=-4.0)]).eval()
    with torch.no_grad():
        next(iter(committee.members[1].parameters())).mul_(1.1)
    files = write_aenet_committee(committee, tmp_path, "mine")
    assert [of_member["C"].relative_to(tmp_path).as_posix() for of_member in files] == [
        "member_000/mine.C.nn.ascii", "member_001/mine.C.nn.ascii"
    ]  # fmt: skip
    for i, member in enumerate(committee.members):
        back = read_aenet_potential(tmp_path / f"member_{i:03d}")
        expected = predict(member, crystal())["total_energy"].item()
        assert predict(back, crystal())["total_energy"].item() == pytest.approx(expected)
    assert find_energy_scaling(committee) == 0.7
    assert (
        find_energy_scaling(NequIPGNNModel(type_names=["H"], r_max=3.0, num_features=4, avg_num_neighbors=2.0)) == 1.0
    )
