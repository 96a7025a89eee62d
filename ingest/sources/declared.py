"""What is known of a source layout without its reader, which may bring in large packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

# The kind of version that a source of episodes makes.
ROBOT = "robot"


@dataclass(frozen=True)
class DeclaredLayout:
    """A layout as specs name it.

    `reader` is `<module>:<class>`, `kind` that of the version that it makes and `container` the format of its
    files.
    """

    name: str
    reader: str
    container: str
    kind: str

    def reader_class(self) -> type:
        """The class of the reader, imported when it is asked for."""
        module, _, name = self.reader.partition(":")
        reader: type = getattr(import_module(module), name)
        return reader
