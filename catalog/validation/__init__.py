"""Whether a version is what its manifest says, and its data plausible."""
