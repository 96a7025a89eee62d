"""The command lines foundry-data, foundry-train and foundry-eval: parse, call, print."""
