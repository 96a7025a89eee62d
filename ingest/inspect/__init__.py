"""What a file or folder is, what its arrays look like with the evidence, and a spec drafted by it."""
