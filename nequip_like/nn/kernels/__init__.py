"""The equivariant convolution: one interface, several implementations that agree with each other."""
