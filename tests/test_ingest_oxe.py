"""Specs of Open X-Embodiment read what the datasets publish as independent arithmetic does."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.oxe.oracle import oracle_of
from foundry_testing.oxe.published import T, instruction, published, write
from foundry_testing.rlds_directories import source_file
from scipy.spatial.transform import Rotation

import robot_foundry
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.robot.content.members import episode_json, reader_of
from robot_foundry.ingest.robot.content.pictures import Pictures
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.mapping import canonical
from robot_foundry.ingest.robot.resolve import resolve
from robot_foundry.ingest.spec.about import VERIFIED
from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec

NAMES = [name.removeprefix("oxe/") for name in builtin_specs() if name.startswith("oxe/")]
# Corrections, depth as PNG, no cameras, zlib, code points, many annotations.
THROUGH_THE_ENGINE = (
    "austin_sirius_dataset_converted_externally_to_rlds",
    "berkeley_autolab_ur5",
    "eth_agent_affordances",
    "kuka",
    "language_table",
    "taco_play",
)
# Sums and products of float32 numbers, each within 1.
TOLERANCE = 2e-6


def test_each_spec_is_compared_with_features_unless_it_says_that_none_are_published():
    verified = {name: _spec(name).about.verified for name in NAMES}
    assert set(verified.values()) <= set(VERIFIED)
    assert {name for name, how in verified.items() if how == "features"} == set(published())


@pytest.mark.parametrize("name", sorted(published()))
def test_what_is_published_becomes_what_it_means(name, tmp_path):
    arrays = write(name, tmp_path)
    spec = _spec(name)
    file = source_file(tmp_path / name / "0.1.0", f"{name}-train.tfrecord-00000-of-00001")
    reader = reader_of(spec)
    (unit,), refused = reader.list_units(file, spec.content)
    assert not refused
    with reader.open(unit, spec.content) as episode:
        pictures = Pictures(episode, spec.content)
        for frame, shown in enumerate(episode.frames):
            pictures.of_frame(frame, shown)
        about = episode_json(unit, episode, pictures, spec, ())
    shapes = {key: values.shape for key, values in episode.arrays.items()}
    resolution = resolve(spec.mapping, [Surveyed(unit.key, about, shapes)])
    assert not resolution.problems
    rows = canonical(resolution.mapping, resolution.schema, about, episode.arrays)
    _check_numbers(name, arrays, resolution.schema, rows.state_ND, rows.streams)
    _check_instruction(name, [row[:4] for row in rows.annotations])


@pytest.mark.parametrize("name", THROUGH_THE_ENGINE)
def test_ingest_keeps_what_is_published(name, tmp_path):
    arrays = write(name, tmp_path / "source")
    report = run(_spec(name), tmp_path / "source", store=tmp_path / "store", name="d")
    assert (report.written, report.refused) == (1, ())
    dataset = robot_foundry.open("d", store=tmp_path / "store")
    frames, schema = dataset.frames(), dataset.manifest.schema
    streams = {stream: np.array(frames[f"action.{stream}"].to_pylist()) for stream in schema.streams}
    state = np.array(frames["state"].to_pylist()) if schema.state else np.zeros((T, 0))
    _check_numbers(name, arrays, schema, state, streams)
    path = tmp_path / "store/datasets/d" / report.version.version_id / "annotations.arrow"
    said = pa.ipc.open_file(path).read_all().to_pylist()
    _check_instruction(name, [(row["start"], row["end"], row["kind"], row["text"]) for row in said])


@cache
def _spec(name):
    return load_spec(f"oxe/{name}")


def _check_numbers(name, arrays, schema, state, streams):
    expected = oracle_of(name)
    assert set(schema.streams) == set(expected) - {"state"}
    for where, quantities in expected.items():
        dims = schema.state if where == "state" else schema.streams[where]
        rows = state if where == "state" else streams[where]
        told = [f"{dim.part}.{dim.quantity}" for dim in dims]
        numbers = {_stored(quantity): _numbers(value(arrays)) for quantity, value in quantities.items()}
        assert set(told) == set(numbers), where
        for quantity, values in numbers.items():
            at = [place for place, each in enumerate(told) if each == quantity]
            # Names of one's own stand in the order of the alphabet, and here in that of the source.
            at = sorted(at, key=lambda place: _order(name, where, quantity, dims[place]))
            np.testing.assert_allclose(
                rows[:, at], values, rtol=0, atol=TOLERANCE, err_msg=f"{where} {quantity}"
            )


def _check_instruction(name, annotations):
    said = [(start, end, text) for start, end, kind, text in annotations if kind == "instruction"]
    assert said == [(0, T, instruction(name))]


def _stored(quantity):
    return quantity.removesuffix("ee_rotation") + "ee_rot6d" if quantity.endswith("ee_rotation") else quantity


def _numbers(value):
    """[T, d]; of rotations the first two columns of the matrices."""
    if isinstance(value, Rotation):
        matrix = value.as_matrix()
        return np.concatenate([matrix[:, :, 0], matrix[:, :, 1]], axis=1)
    return value


def _order(name, where, quantity, dim):
    mapping = _spec(name).mapping
    fields = mapping.state if where == "state" else mapping.actions[where]
    names = fields[quantity].names if quantity in fields else None
    return names.index(dim.component) if names else 0
