"""Datasets of Open X-Embodiment as they publish themselves, and what their numbers mean."""
