"""Names of the files in which `foundry-data export` keeps account of a folder, and which are no data."""

from __future__ import annotations

EXPORT_RECORD, EXPORT_LOCK = ".foundry-export.jsonl", ".foundry-export.lock"
