"""Commands of foundry-data, one file each."""
