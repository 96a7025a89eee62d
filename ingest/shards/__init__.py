"""Shards as ingest makes them: written or adopted, and what one holds."""
