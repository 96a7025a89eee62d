import pickle

import pytest

from robot_foundry.runtime.errors import (
    FindingsError,
    FoundryError,
    MissingFileError,
    Preempted,
    UsageError,
    nearest,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(FoundryError, 1), (UsageError, 2), (FindingsError, 3), (Preempted, 75), (MissingFileError, 1)],
)
def test_an_error_keeps_its_sentence_its_hint_and_its_exit_code_between_processes(kind, code):
    error = pickle.loads(pickle.dumps(kind("the file a.h5 is truncated", hint="copy it again")))

    assert type(error) is kind
    assert (str(error), error.hint, error.exit_code) == ("the file a.h5 is truncated", "copy it again", code)


def test_a_missing_file_is_caught_as_python_code_would_catch_it():
    with pytest.raises(FileNotFoundError, match="no object"):
        raise MissingFileError("there is no object s3://b/k")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("robomimc", ", did you mean 'robomimic'?"), ("ROBOSUITE", ", did you mean 'robosuite'?"), ("x", "")],
)
def test_nearest_names_the_closest_choice_or_nothing(word, expected):
    assert nearest(word, ["robomimic", "robosuite", "tabletop"]) == expected
