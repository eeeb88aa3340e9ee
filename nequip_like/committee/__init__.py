"""Committees: several potentials that were trained alike, whose spread tells where their mean is to be trusted."""

from nequip_like.committee.committee import Committee
from nequip_like.committee.predictions import CommitteePrediction, CommitteePredictions

__all__ = ["Committee", "CommitteePrediction", "CommitteePredictions"]
