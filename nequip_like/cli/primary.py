"""A look at the user's own config file before Hydra reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError

_BEGIN = "begin it with the line defaults: [train, _self_]"


def check_primary(file: Path) -> None:
    """Refuse a config file that cannot be one, or that makes Hydra search untrusted packages for configs.

    Args:
        file: The file; another is passed over, Hydra finds what there is.

    Raises:
        ConfigError: Naming the file, and the line.
    """
    if not file.is_file():
        return
    content = _read(file)
    if not isinstance(content, dict):
        what = "empty" if content is None else f"a {'list' if isinstance(content, list) else 'text'}, not a mapping"
        raise ConfigError(f"the config {file} is {what}", _BEGIN)
    defaults = content.get("defaults", [])
    if not isinstance(defaults, list):
        raise ConfigError(f"the defaults of {file} are {defaults!r}", "give a list: defaults: [train, _self_]")
    if file.stem in defaults:
        raise ConfigError(
            f"the config {file} takes in '{file.stem}', which is its own name",
            f"rename it, for example to my_{file.name}",
        )
    _check_search_path(file, content)


def _read(file: Path) -> Any:
    import yaml
    from omegaconf.errors import OmegaConfBaseException

    from nequip_like.cli.config_files import load
    from nequip_like.cli.hydra_errors import yaml_error
    from nequip_like.cli.yaml_size import check_size

    try:
        text = file.read_text(encoding="utf-8")
        check_size(text, file)
        if not text.strip():
            return None
        with file.open(encoding="utf-8") as stream:
            return _loaded(load(stream))
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}, line {line}: not UTF-8 text", "save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise yaml_error(error, file) from error
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {str(error).splitlines()[0]}", "see what stands after $") from error
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}", "give a file that you may read") from error


def _loaded(config: Any) -> Any:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(config, resolve=False)
    # OmegaConf makes a mapping of a mere word.
    return next(iter(content)) if isinstance(content, dict) and list(content.values()) == [None] else content


def _check_search_path(file: Path, content: dict[Any, Any]) -> None:
    """``pkg://`` imports a package."""
    from nequip_like.workflow.trust import HYDRA, OWN, user_packages, within

    hydra = content.get("hydra")
    entries = hydra.get("searchpath") if isinstance(hydra, dict) else None
    packages = (OWN, *HYDRA, *user_packages(content.get("trusted_packages")))
    for entry in entries if isinstance(entries, list) else [entries]:
        if entry is None or (isinstance(entry, str) and "${" not in entry and not entry.startswith("pkg:")):
            continue
        if not within(str(entry).removeprefix("pkg://").replace("/", "."), packages):
            raise ConfigError(
                f"hydra.searchpath of {file} has '{entry}', which is in no trusted package",
                "give a folder: file://FOLDER",
            )
