"""How a matrix's file is read as YAML."""

from typing import Any

import yaml


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Reads YAML as always, but for a key that stands twice, whose first value would be lost."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return a mapping's node.

        Raises:
            yaml.MarkedYAMLError: A key stands twice.
        """
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {name[1]!r:.60} stands twice",
                    problem_mark=key.start_mark,
                    note="keep one of them",
                )
            seen.add(name)
        return node
