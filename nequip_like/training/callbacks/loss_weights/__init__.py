"""Callbacks that change the weights of the loss while a run goes on."""
