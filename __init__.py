"""robot_foundry: from raw robot logs, text and pictures to trained models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robot_foundry.loader.load import load
    from robot_foundry.loader.open import open

__version__ = "0.1.0"
__all__ = ["__version__", "load", "open"]


def __getattr__(name: str) -> Any:
    # `import robot_foundry` must stay cheap: these two pull in pyarrow.
    if name == "open":
        from robot_foundry.loader.open import open as open_dataset

        return open_dataset
    if name == "load":
        from robot_foundry.loader.load import load as load_batches

        return load_batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
