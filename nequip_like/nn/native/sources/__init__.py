"""Writers of the C code of a network: what they write is compiled by :mod:`nequip_like.nn.native.program`."""
