"""Advice for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable

from nequip_like.errors import closest_hint


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """One line of advice: the closest of the options if there is one, and all of them."""
    known = sorted(options)
    listing = f"known: {', '.join(known)}" if known else "there are none"
    return closest_hint(name, known) + listing
