"""Commands of foundry-eval, one file each."""
