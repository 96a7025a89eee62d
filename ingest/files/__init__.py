"""The files of a source: where they lie, what is found there, and by what each is known."""
