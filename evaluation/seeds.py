"""Which scene an episode gets: seeds for demonstrations and for rollouts never coincide."""

from __future__ import annotations

from robot_foundry.runtime.keyed import key


def scene_seed(purpose: str, seed: int, index: int) -> int:
    """The seed of episode `index` for a purpose ("collect" or "rollout"): 63 bits, so that HDF5 can hold it.

    Two purposes, or two seeds, share a scene with probability 2**-63 a pair.
    """
    return key("scene", purpose, seed, index) >> 1
