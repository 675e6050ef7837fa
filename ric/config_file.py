"""Reading a config file: YAML or a run's record, of a bounded size.

Like `ric.config`, this file imports nothing heavy.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.errors import RicError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_CONFIG = 1 << 20  # bytes
MOST_VALUES = 10_000  # in one config file, counting every repetition by an alias (*name)


def load_config_file(path: Path) -> dict[str, Any]:
    """Read `--config`: a YAML file of fields, or a run.json, whose `config` is used.

    Raises:
        RicError: the file is missing, cannot be parsed, is too large, names a field twice, or does
            not hold a mapping.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST_CONFIG + 1)
    except OSError as error:
        raise RicError(f"Cannot read the config file {path}: {error.strerror}.") from None
    if len(data) > LARGEST_CONFIG:
        raise RicError(f"The config file {path} has more than {LARGEST_CONFIG >> 20} MiB.")
    try:
        loaded = _load_yaml(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise RicError(f"The config file {path} is neither YAML nor JSON, but binary.") from None
    except RecursionError:
        raise RicError(f"The config file {path} is nested too deeply.") from None
    except Exception as error:
        # besides its own errors yaml raises whatever Python does on malformed dates and numbers
        reason = first_line(error)
        raise RicError(f"The config file {path} is neither YAML nor JSON: {reason}.") from None
    if isinstance(loaded, dict) and "schema" in loaded and isinstance(loaded.get("config"), dict):
        loaded = loaded["config"]
    if not isinstance(loaded, dict):
        raise RicError(f"The config file {path} is not a mapping of fields to values.")
    return loaded


def _load_yaml(text: str) -> Any:
    """Parse YAML of a bounded size (raises ValueError, RecursionError, or yaml's errors)."""
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        tree = loader.get_single_node()
        if tree is None:
            return None
        for number, node in enumerate(_nodes(tree)):
            if number > MOST_VALUES:
                raise ValueError(f"it has more than {MOST_VALUES} values")
            if isinstance(node, yaml.MappingNode):
                keys = Counter(
                    key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)
                )
                if twice := [key for key, count in keys.items() if count > 1]:
                    raise ValueError(f"it sets {twice[0]!r} twice")
        return loader.construct_document(tree)
    finally:
        loader.dispose()


def _nodes(node: Any) -> Iterator[Any]:
    """Yield a YAML node and all below it, including every repetition by an alias."""
    yield node
    if isinstance(node.value, list):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from _nodes(part)
