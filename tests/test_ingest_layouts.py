"""Layouts declare themselves: specs are read without readers, and each reader without others."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest

from robot_foundry.ingest.robot.spec.content_reader import robot_layouts
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.sources import LAYOUTS, layout
from robot_foundry.ingest.sources.robot.robot_layout import OptionsSection, RobotLayout
from robot_foundry.ingest.spec.section import REQUIRED, Section, text
from robot_foundry.runtime.errors import UsageError

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
# Prints which of the packages that only some readers need are imported.
HEAVY = """
import sys
packages = ("h5py", "google.protobuf", "tensorflow_datasets", "tensorflow", "av")
print("\\n".join(name for name in packages if name in sys.modules))
"""
MAPPING = {"embodiment": "arm", "state": {"right.ee_position": {"key": "p"}}}


def imported_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code + HEAVY], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def problems_of(name: str, content: dict[str, object]) -> str:
    with pytest.raises(UsageError) as error:
        spec_from_json({"layout": name, "content": content, "mapping": MAPPING}, "test")
    return error.value.message


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_reader_is_that_of_its_declaration(name):
    reader = layout(name)
    assert reader.declared is LAYOUTS[name] and reader.name == name
    assert reader.declared.kind == (name if name in ("text", "pairs") else "robot") and reader.version >= 1


def test_docs_name_the_layouts_and_what_they_understand():
    page = (DOCS / "specs.md").read_text("utf-8")
    listed = re.search(r"^layout: robomimic +# ([a-z0-9_, ]+): the reader", page, re.MULTILINE)
    assert listed is not None and listed[1].split(", ") == sorted(robot_layouts())
    for other in LAYOUTS.keys() - robot_layouts().keys():  # its specs have keys of their own
        assert re.search(rf"^layout: {other}$", page, re.MULTILINE)
    told = re.search(r"In the layouts ([a-z0-9, ]+) and ([a-z0-9]+)\.", page)
    assert told is not None
    of_docs = {*told[1].split(", "), told[2]}
    assert of_docs == {name for name, declared in robot_layouts().items() if declared.has_own_lengths}


@pytest.mark.parametrize("name", robot_layouts())
def test_a_layout_refuses_the_options_of_others(name):
    sections = {
        "hdf5": {"length": "p"},
        "ros": {"rate": 15, "streams": {"a": {"topic": "/a", "field": "data"}}},
    }
    needed = {name: sections[name]} if name in sections else {}
    spec = spec_from_json({"layout": name, "content": needed, "mapping": MAPPING}, "test")
    assert spec.layout == name
    for option, value, names in (
        ("pixels", {"rgb": {"axes": "HWC"}}, ("aloha", "hdf5", "libero", "rlds", "robomimic", "zarr")),
        ("extra_row", "next_state", ("aloha", "hdf5", "libero", "robomimic", "robosuite")),
        ("hdf5", {"length": "p"}, ("hdf5",)),
    ):
        content = {**needed, option: value}
        if name in names:
            read = spec_from_json({"layout": name, "content": content, "mapping": MAPPING}, "test")
            assert read.to_json()["content"][option]
        else:
            assert f"content.{option}: " in problems_of(name, content)


def test_the_layout_hdf5_needs_its_section_and_any_other_has_none():
    assert problems_of("hdf5", {}).endswith("content.hdf5: is missing")
    told = problems_of("rlds", {"hdf5": {"length": "p"}})
    assert told.endswith("content.hdf5: belongs to the layout hdf5; the layout rlds knows its places")
    assert "did you mean 'hdf5'" in problems_of("rlds", {"hdf": {}})


def test_a_further_layout_is_one_declaration(monkeypatch):
    """Options of its own: they are read, written as JSON and refused with other layouts."""

    @dataclass(frozen=True)
    class Topics:
        section: ClassVar[str] = "bag"
        pose: str

        arrays = frozenset(("pose",))
        image_patterns = (("content.bag.cameras", "camera/*"),)

        def to_json(self) -> dict[str, str]:
            return {"pose": self.pose}

    def read(section: Section) -> Topics:
        topics = Topics(section.take("pose", text, REQUIRED))
        section.close()
        return topics

    options = OptionsSection(read, others="has no topics", page="docs/some.md")
    declared = RobotLayout("bag", "bags:Reader", "bag", "robot", has_own_lengths=False, options=options)
    monkeypatch.setitem(LAYOUTS, "bag", declared)
    spec = spec_from_json({"layout": "bag", "content": {"bag": {"pose": "/p"}}, "mapping": MAPPING}, "test")
    assert spec.content.options == Topics("/p") and spec.to_json()["content"]["bag"] == {"pose": "/p"}
    assert problems_of("bag", {}).endswith("content.bag: is missing")
    assert "content.bag.pos: is not a key here, did you mean 'pose'?" in problems_of(
        "bag", {"bag": {"pos": 1}}
    )
    told = problems_of("aloha", {"bag": {"pose": "/p"}})
    assert told.endswith("content.bag: belongs to the layout bag; the layout aloha has no topics")
    assert "belongs to the layouts aloha" in problems_of(
        "bag", {"bag": {"pose": "/p"}, "extra_row": "next_state"}
    )


def test_reading_every_packaged_spec_imports_no_reader():
    code = (
        "from robot_foundry.ingest.spec.spec_files import builtin_specs, load_spec\n"
        "assert [load_spec(name).to_json() for name in builtin_specs()]\n"
    )
    assert imported_by(code) == set()


def test_ingesting_rlds_imports_no_hdf5(tmp_path):
    from foundry_testing import rlds_directories

    made = rlds_directories.simple(tmp_path, 2)
    (tmp_path / "arm.yaml").write_text(rlds_directories.SPEC, "utf-8")
    code = (
        "from robot_foundry.ingest.engine import run\n"
        f"report = run({str(tmp_path / 'arm.yaml')!r}, {str(made.folder)!r}, store={str(tmp_path / 's')!r},"
        " name='arm')\n"
        "assert report.counts['episodes'] > 0 and report.absence is not None\n"
        "import robot_foundry.ingest.robot.inverse, robot_foundry.ingest.remapping\n"
    )
    assert imported_by(code) == {"google.protobuf", "tensorflow_datasets"}


def test_ingesting_hdf5_imports_no_protocol_buffers(tmp_path):
    with h5py.File(tmp_path / "in.hdf5", "w") as file:
        file["p"] = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    mapping = "{embodiment: arm, state: {right.ee_position: {key: p}}, actions: {next_state: "
    mapping += "{right.ee_position: {from: next_state}}}}"
    (tmp_path / "arm.yaml").write_text(
        f"layout: hdf5\ncontent: {{fps: 10, hdf5: {{length: p}}}}\nmapping: {mapping}\n", "utf-8"
    )
    code = (
        "from robot_foundry.ingest.engine import run\n"
        f"report = run({str(tmp_path / 'arm.yaml')!r}, {str(tmp_path / 'in.hdf5')!r},"
        f" store={str(tmp_path / 's')!r}, name='arm')\n"
        "assert report.counts['episodes'] == 1\n"
    )
    assert imported_by(code) == {"h5py"}
