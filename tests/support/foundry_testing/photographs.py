"""Pictures whose files are about as large as those of photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robot_foundry.shards.images import encode_jpeg

NUM_UNLIKE = 32


def photographs(height: int, width: int, quality: int) -> Callable[[], bytes]:
    """JPEGs of smooth noise, whose power falls with frequency as in photographs."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / width
    encoded = []
    for _ in range(NUM_UNLIKE):
        spectrum = rng.normal(size=(3, *frequency.shape)) / frequency**1.5
        noise = np.moveaxis(np.fft.irfft2(spectrum, (height, width)), 0, -1)
        pixels = (128 + 50 * noise / noise.std()).clip(0, 255).astype(np.uint8)
        encoded.append(encode_jpeg(pixels, quality))
    return lambda: encoded[rng.integers(len(encoded))]
