"""What holds for all tests: they judge what is done, never how fast, which a busy machine decides."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
