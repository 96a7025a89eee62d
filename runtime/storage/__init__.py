"""Storage: a folder or an object store behind one interface."""
