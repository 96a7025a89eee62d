"""RLDS: TFDS directories of episodes, read without TensorFlow."""
