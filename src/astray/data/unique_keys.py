"""YAML loader that rejects repeated keys, of which YAML itself silently keeps the last."""

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML loader to which a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct the mapping at a node.

        Raises:
            ConstructorError: a key stands twice in it.
        """
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        # "<<", the merge key, may stand twice: each merges another mapping.
        twice = next((key for key, count in keys.items() if count > 1 and key != "<<"), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(problem=f"the key {twice!r} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


def read_texts(name: str) -> Any:
    """Return the content of a YAML file of this package, the texts of the module of the same name."""
    return yaml.load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
