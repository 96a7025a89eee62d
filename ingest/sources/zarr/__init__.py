"""Replay buffers in zarr, as Diffusion Policy, DP3 and UMI write them: a folder or a zip."""
