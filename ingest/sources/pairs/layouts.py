"""The layout of image-text pairs as specs name it; what reads it is imported when a source is read."""

from __future__ import annotations

from robot_foundry.ingest.sources.declared import DeclaredLayout

PAIRS = DeclaredLayout("pairs", "robot_foundry.ingest.sources.pairs.pairs:Pairs", "pairs", "pairs")
LAYOUTS = (PAIRS,)
