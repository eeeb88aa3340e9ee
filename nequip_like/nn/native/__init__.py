"""The NequIP network as C code made for the model: energies, forces, and the gradients of a loss of both. For CPUs."""
