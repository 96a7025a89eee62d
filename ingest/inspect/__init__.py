"""What any file or folder is, what its arrays look like with the evidence, and a spec that is drafted by it."""
