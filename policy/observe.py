"""What a robot or a simulator reports, checked and brought into the form of the loader's batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.windows.resize import resized


def check_parts(observation: Any) -> None:
    """FoundryError if it is no mapping, or its images are none by name of the camera."""
    if not isinstance(observation, Mapping):
        raise FoundryError(f"the observation is {type_of(observation)}, not a dict of images and state")
    images = observation.get("images")
    if images is not None and not isinstance(images, Mapping):
        raise FoundryError(f"the images are {type_of(images)}, not pictures by the name of the camera")


def type_of(value: Any) -> str:
    """What a value is, for a sentence."""
    return "None" if value is None else f"of type {type(value).__name__}"


def state_array(state: Any, space: ActionSpace, history: int) -> NDArray[np.float32]:
    """A state as an array [d] or [H, d], or numbers or [H] by dim, as float32 [H, d]; one moment is repeated.

    NaN is what is not known, and so are dims that are not named.
    """
    if state is None:
        raise FoundryError(f"the observation has no state; it needs {', '.join(space.names)}")
    if isinstance(state, Mapping):
        return _named_state(state, space, history)
    values = np.asarray(state, np.float32)
    if values.shape == (len(space),):
        values = np.repeat(values[None], history, axis=0)
    if values.shape != (history, len(space)):
        raise FoundryError(
            f"a state of shape {values.shape} is neither ({len(space)},) nor ({history}, {len(space)})"
        )
    return values


def _named_state(state: Mapping[str, Any], space: ActionSpace, history: int) -> NDArray[np.float32]:
    values = np.full((history, len(space)), np.nan, np.float32)
    for name, given in state.items():
        if name not in space.names:
            raise FoundryError(f"the state has no '{name}'{nearest(str(name), space.names)}")
        moments = np.asarray(given, np.float32)
        if moments.shape not in ((), (history,)):
            raise FoundryError(
                f"'{name}' of the state has the shape {moments.shape}, neither one number nor ({history},)"
            )
        values[:, space.index(name)] = moments
    return values


def latest_state(state: Any, space: ActionSpace) -> NDArray[np.float32]:
    """The last moment [d] of a state in any of the forms of `state_array`, whatever its history."""
    if isinstance(state, Mapping):
        state = {
            name: np.asarray(given)[..., -1] if np.ndim(given) else given for name, given in state.items()
        }
    elif state is not None and np.ndim(state) == 2:
        state = np.asarray(state)[-1]
    return state_array(state, space, 1)[0]


def image_arrays(
    pictures: Sequence[Mapping[str, Any]], roles: Sequence[str], history: int, size: tuple[int, int]
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.bool_]]]:
    """Pictures by role [B, H, h, w, 3], resized as the loader does, and which are there [B, H]."""
    images = {role: np.zeros((len(pictures), history, *size, 3), np.uint8) for role in roles}
    masks = {role: np.zeros((len(pictures), history), np.bool_) for role in roles}
    for row, given in enumerate(pictures):
        for role, picture in given.items():
            if role not in images:
                near = nearest(role, images)
                raise FoundryError(f"the policy has no camera '{role}'{near} (it sees {', '.join(roles)})")
            for out, moment in zip(images[role][row], _moments(picture, role, history), strict=True):
                out[...] = resized(moment, size)
            masks[role][row] = True
    return images, masks


def _moments(picture: Any, role: str, history: int) -> NDArray[np.uint8]:
    """[H, h, w, 3] of a picture; one moment is repeated."""
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise FoundryError(
            f"the image '{role}' is {pixels.dtype} {list(pixels.shape)}, not uint8 [height, width, 3]"
        )
    moments = pixels if pixels.ndim == 4 else np.repeat(pixels[None], history, axis=0)
    if len(moments) != history:
        raise FoundryError(f"the image '{role}' has {len(moments)} moments, the policy sees {history}")
    return moments
