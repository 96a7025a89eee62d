"""What every layer stands on: errors, storage, hashing, keyed randomness, parallel map, progress."""
