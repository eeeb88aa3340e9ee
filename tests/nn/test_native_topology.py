"""How the compiled network divides atoms and edges among threads."""

import ctypes
from itertools import pairwise

import pytest
from ase.build import bulk

from nequip_like.data import fields
from nequip_like.nn.native import compiler
from nequip_like.nn.native.network import Topology
from nequip_like.testing.structures import graph_of, molecule
from tests.nn.test_native import model_of

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")


def read_array(topology, name, size):
    return list((ctypes.c_int32 * size).from_address(topology.pointers[name]))


@pytest.mark.parametrize("cells", [1, 5, 8])
def test_chunks_have_equal_work(cells):
    """On 4,000 atoms of two species 64 of them; the work is in the edges that the atoms send."""
    model = model_of("fused", num_layers=1, num_features=6, l_max=0)
    atoms = bulk("NaCl", "rocksalt", a=3.6, cubic=True).repeat(cells) if cells > 1 else molecule()
    if cells > 1:
        atoms.symbols = ["H" if symbol == "Na" else "O" for symbol in atoms.symbols]
        atoms.rattle(0.2, seed=0)
        del atoms[[3, 50, 51]]
    else:
        atoms.symbols = "HHOOO"
    graph = graph_of(atoms, model)
    edges, count = graph[fields.EDGE_INDEX].shape[1], len(atoms)
    topology = Topology(model.energy_model.native.network.program, graph[fields.ATOM_TYPES], graph[fields.EDGE_INDEX])
    starts, stops = (read_array(topology, name, topology.blocks) for name in ("block_start", "block_stop"))
    types = read_array(topology, "block_type", topology.blocks)
    first_blocks = read_array(topology, "chunk_block", topology.chunks + 1)
    # Blocks follow each other without gaps, and each has atoms of one species.
    assert [0, *stops] == [*starts, count]
    sorted_types = graph[fields.ATOM_TYPES].sort().values.tolist()
    for start, stop, kind in zip(starts, stops, types, strict=True):
        assert 0 < stop - start <= model.energy_model.native.network.program.block
        assert sorted_types[start:stop] == [kind] * (stop - start)
    assert topology.chunks == max(1, min(64, edges // 1024))
    assert (topology.chunks == 64) == (cells == 8)
    assert (first_blocks[0], first_blocks[-1]) == (0, topology.blocks)
    rows = read_array(topology, "sent_row", count + 1)
    first_atoms = [starts[block] if block < topology.blocks else count for block in first_blocks]
    work = [rows[stop] - rows[start] for start, stop in pairwise(first_atoms)]
    assert sum(work) == edges
    assert max(work) <= 1.1 * edges / topology.chunks
    assert min(work) >= 0.9 * edges / topology.chunks
