"""Versions and mixtures in the formats of other people's tools."""
