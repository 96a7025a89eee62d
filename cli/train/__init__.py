"""Commands of foundry-train, one file each."""
