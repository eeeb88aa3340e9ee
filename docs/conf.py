"""Sphinx: `make docs`. Pages are Markdown (MyST); the API reference is made from the docstrings of every module."""

import re

from nequip_like import __version__

project = "nequip_like"
author = copyright = "nequip_like developers"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "nequip_like"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# sphinx.ext.apidoc writes one page for each module into docs/_api before every build.
apidoc_modules = [{"path": "../nequip_like", "destination": "_api", "separate_modules": True, "max_depth": 2}]
# Names are documented where they are defined; a package that hands some of them on would document them twice.
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # else autodoc and napoleon both describe the fields of a dataclass

_LINK_TO_SOURCES = re.compile(r"\[([^]]+)\]\((?:\.\./)+((?:nequip_like/|CONTRIBUTING)[^)]*)\)")


def _name_sources(app, page, text):
    """Pages that lie beside the code are no part of the built documentation: in place of a link stands their path."""
    text[0] = _LINK_TO_SOURCES.sub(r"\1 (`\2`)", text[0])


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", _name_sources)
