"""Pipelines: named commands whose products feed each other, from one YAML."""
