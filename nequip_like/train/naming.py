"""Advice for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """One line of advice: the closest of the options if there is one, and all of them."""
    known = sorted(options)
    close = difflib.get_close_matches(str(name), known, n=1)
    listing = f"known: {', '.join(known)}" if known else "there are none"
    return f"did you mean '{close[0]}'? {listing}" if close else listing
