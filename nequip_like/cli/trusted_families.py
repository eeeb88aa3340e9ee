"""Model families of packages that the user trusts by name, for commands that read a model file."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence

from nequip_like.errors import ConfigError, first_line
from nequip_like.model.families import check_names
from nequip_like.model.potential import Potential
from nequip_like.workflow.config.trust import NOT_INSTALLED, user_packages

TABLE = "FAMILIES"


def trusted_families(
    packages: Sequence[str], option: str, *, needs_table: bool = True
) -> dict[str, Callable[..., Potential]]:
    """The families of some packages: each has a table ``FAMILIES = {name: builder}``.

    A package is imported because the user names it; what a model file says is only looked up in the table.

    Args:
        packages: Names of modules.
        option: The option that names them, for messages.
        needs_table: Refuse a package without a table; else it has no families, and is trusted for what configs name.

    Returns:
        Builders by the name of their family.

    Raises:
        ConfigError: If a package cannot be imported, may not be trusted or has no table, or a family has a name that is
            there already.
    """
    families: dict[str, Callable[..., Potential]] = {}
    for package in user_packages(packages):
        table = getattr(_import_package(package, option), TABLE, None)
        if table is None and not needs_table:
            continue
        if not isinstance(table, Mapping) or not table:
            raise ConfigError(
                f"{option}: {package} has no table of model families",
                f"write {TABLE} = {{'name': builder}} in {package}",
            )
        check_names(table, f"{TABLE} of {package}")
        if twice := sorted(families.keys() & table.keys()):
            raise ConfigError(
                f"{option}: two of {', '.join(packages)} have the family '{twice[0]}'", "name one of them"
            )
        families |= table
    return families


def _import_package(package: str, option: str) -> object:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{option}: there is no package '{error.name}'", NOT_INSTALLED) from error
    except ImportError as error:
        raise ConfigError(f"{option}: {package} cannot be imported: {first_line(error)}") from error
