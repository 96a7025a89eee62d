"""From a mixture to batches: the order of samples, windows, decoding, and `load`."""
