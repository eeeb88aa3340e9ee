"""How large a YAML text becomes once its aliases are filled in: a few lines can stand for billions of values."""

from __future__ import annotations

from pathlib import Path

from nequip_like.errors import ConfigError

_MOST_VALUES = 100_000


def check_yaml_size(text: str, file: Path) -> None:
    """Refuse a YAML text that is nested too deeply, or becomes too large.

    Args:
        text: The content of the file.
        file: The file, for messages.

    Raises:
        ConfigError: Naming the file.
        yaml.YAMLError: If the text is not YAML.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    loader.name = str(file)  # for its messages
    try:
        root = loader.get_single_node()
        size = 0 if root is None else _count_values(root, {})
    except RecursionError:
        raise ConfigError(f"{file} is nested too deeply, or refers to itself", "write it with fewer brackets") from None
    if size > _MOST_VALUES:
        raise ConfigError(
            f"{file} has more than {_MOST_VALUES} values once its aliases (*name) are filled in", "use fewer of them"
        )


def _count_values(node: object, sizes: dict[int, int]) -> int:
    """Number of values below a node; each is counted once and added as often as it is referred to."""
    if id(node) not in sizes:
        value = getattr(node, "value", None)
        children = value if isinstance(value, list) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        sizes[id(node)] = 1 + sum(_count_values(part, sizes) for part in parts)
    return sizes[id(node)]
