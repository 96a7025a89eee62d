"""Specs of Open X-Embodiment read what the datasets publish as independent arithmetic does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.oxe.oracle import oracle_of
from foundry_testing.oxe.published import T, instruction, published, write
from scipy.spatial.transform import Rotation

import robot_foundry
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.spec.about import VERIFIED
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec

SPECS = [name for name in builtin_specs() if name.startswith("oxe/")]
# Sums and products of float32 numbers, each within 1.
TOLERANCE = 2e-6


def test_each_spec_is_compared_with_features_unless_it_says_that_none_are_published():
    verified = {name.removeprefix("oxe/"): load_spec(name).about.verified for name in SPECS}
    assert set(verified.values()) <= set(VERIFIED)
    assert {name for name, how in verified.items() if how == "features"} == set(published())


@pytest.mark.parametrize("name", sorted(published()))
def test_what_is_published_becomes_what_it_means(name, tmp_path):
    arrays = write(name, tmp_path / "source")
    report = run(
        load_spec(f"oxe/{name}"), tmp_path / "source", store=tmp_path / "store", name="d",
        options=Options(workers=1),
    )  # fmt: skip
    assert (report.written, report.refused) == (1, ())
    dataset = robot_foundry.open("d", store=tmp_path / "store")
    frames = dataset.frames()
    schema = dataset.manifest.schema
    expected = oracle_of(name)
    assert set(schema.streams) == set(expected) - {"state"}
    for where, quantities in expected.items():
        dims = schema.state if where == "state" else schema.streams[where]
        column = "state" if where == "state" else f"action.{where}"
        rows = np.array(frames[column].to_pylist())
        told = [f"{dim.part}.{dim.quantity}" for dim in dims]
        numbers = {_stored(quantity): _numbers(value(arrays)) for quantity, value in quantities.items()}
        assert set(told) == set(numbers), where
        for quantity, values in numbers.items():
            at = [told_at for told_at, each in enumerate(told) if each == quantity]
            # Names of one's own stand in the order of the alphabet, and here in that of the source.
            at = sorted(at, key=lambda k: _order(load_spec(f"oxe/{name}"), where, quantity, dims[k]))
            np.testing.assert_allclose(
                rows[:, at], values, rtol=0, atol=TOLERANCE, err_msg=f"{where} {quantity}"
            )
    path = tmp_path / "store/datasets/d" / report.version.version_id / "annotations.arrow"
    said = pa.ipc.open_file(path).read_all().to_pylist()
    assert [(row["start"], row["end"], row["text"]) for row in said if row["kind"] == "instruction"] == [
        (0, T, instruction(name))
    ]


def _stored(quantity: str) -> str:
    return quantity.removesuffix("ee_rotation") + "ee_rot6d" if quantity.endswith("ee_rotation") else quantity


def _numbers(value):
    """[T, d]; of rotations the first two columns of the matrices."""
    if isinstance(value, Rotation):
        matrix = value.as_matrix()
        return np.concatenate([matrix[:, :, 0], matrix[:, :, 1]], axis=1)
    return value


def _order(spec, where, quantity, dim):
    fields = spec.mapping.state if where == "state" else spec.mapping.actions[where]
    names = fields[quantity].names if quantity in fields else None
    return names.index(dim.component) if names else 0
