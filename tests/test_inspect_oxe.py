"""`inspect` on directories of Open X-Embodiment, with motion in their published features."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from foundry_testing.oxe.recorded import write_recordings

from robot_foundry.ingest.inspect.inspect import inspect
from robot_foundry.ingest.inspect.page import page_of
from robot_foundry.ingest.inspect.told import instructions_of, roles_of
from robot_foundry.ingest.robot.spec.spec import Spec
from robot_foundry.ingest.spec.spec_files import load_spec

VOID = {"meta", "img", "br"}
# Poses of 4 x 4 numbers, actions of RT-1 of an arm and of a tool, one array of all.
NAMES = (
    "viola",
    "jaco_play",
    "stanford_hydra_dataset_converted_externally_to_rlds",
    "berkeley_autolab_ur5",
)


class Page(HTMLParser):
    """What a page shows, and tags that are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.places: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.places += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("name", NAMES)
def test_its_own_spec_comes_first_and_cameras_and_instructions_are_those_of_it(
    name: str, tmp_path: Path
) -> None:
    spec = load_spec(f"oxe/{name}")
    assert isinstance(spec, Spec) and spec.content.fps is not None
    write_recordings(name, tmp_path, spec.content.fps)
    made = inspect(tmp_path, with_pictures=True)
    (seen,) = made.seen
    assert seen.survey is not None
    first, *others = seen.fits
    assert (first.spec, first.is_alike, first.doubts) == (f"oxe/{name}", False, ())
    assert all(fit.is_alike for fit in others)
    roles = {camera: said.value for camera, said in roles_of(seen.survey).items()}
    assert roles == {camera: spec.mapping.cameras[camera] for camera in roles}
    assert instructions_of(seen.survey)[0][0] == spec.mapping.instruction[0]
    page = Page(page_of(made))
    assert not page.open and not page.wrong and "script" not in page.tags
    assert len(page.places) == len(roles) and all(place.startswith("data:image/") for place in page.places)
