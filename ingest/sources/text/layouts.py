"""The layout of documents of text as specs name it; what reads parquet is imported when a source is read."""

from __future__ import annotations

from robot_foundry.ingest.sources.declared import DeclaredLayout

TEXT = DeclaredLayout("text", "robot_foundry.ingest.sources.text.text:Text", "text", "text", has_images=False)
LAYOUTS = (TEXT,)
