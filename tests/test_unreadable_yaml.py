"""YAML that a user wrote and that no reader takes: one sentence that names the file."""

from __future__ import annotations

import pytest

from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.tasks.vla.recipe import read_recipe


@pytest.mark.parametrize("read", [load_spec, read_recipe])
@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("layout: robomimic".encode("utf-16"), r"is not UTF-8 \(byte 0\)"),
        ("# caf\xe9".encode("latin-1"), r"is not UTF-8 \(byte 5\)"),
        (b"[" * 5000, "nested too deep"),
    ],
)
def test_a_file_that_is_no_text_or_too_deep_is_a_usage_error(read, data, told, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"own.yaml .*{told}"):
        read(path)
