"""Names of members: the grammar, and that plain string order is the order of episodes and frames."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.keys import KEY
from robot_foundry.shards.robot import names as keys

EPISODES = st.from_regex(r"[a-z0-9_]{1,20}-[0-9a-f]{12}", fullmatch=True)
CAMERAS = st.from_regex(keys.CAMERA, fullmatch=True)
FRAMES = st.integers(0, keys.MAX_FRAMES - 1)


@given(st.text(), st.text())
def test_any_source_name_gives_a_valid_key_that_leaves_room_for_the_rest(path: str, episode_id: str) -> None:
    try:
        key = keys.episode_key(path, episode_id)
    except FoundryError as error:
        assert "surrogate" in str(error)
        return
    assert re.fullmatch(KEY, key) and len(key) <= 45
    name = keys.image_name(key, keys.MAX_FRAMES - 1, "c" * 40, "png")
    assert len(name) <= 100
    assert keys.parse(name).episode == key


def test_a_key_is_readable_and_its_hash_covers_path_and_id() -> None:
    key = keys.episode_key("lift/ph.hdf5", "demo_7")
    assert key.startswith("demo_7-")
    assert key == keys.episode_key("lift/ph.hdf5", "demo_7")
    others = {keys.episode_key("can/ph.hdf5", "demo_7"), keys.episode_key("lift/ph.hdf5demo_", "7")}
    assert key not in others and len(others) == 2
    assert keys.episode_key("a", "../../ETC passwd").startswith("etc-passwd-")
    assert keys.episode_key("a", "日本").startswith("episode-")


@given(EPISODES, FRAMES, CAMERAS, st.sampled_from(keys.IMAGE_ENCODINGS))
def test_parse_inverts_image_name(episode: str, frame: int, camera: str, encoding: str) -> None:
    found = keys.parse(keys.image_name(episode, frame, camera, encoding))
    assert found == keys.Member(
        keys.frame_key(episode, frame), episode, frame, camera, f"{camera}.{encoding}"
    )


@given(EPISODES, FRAMES, FRAMES)
def test_string_order_is_frame_order_and_frames_come_before_the_rest(episode: str, a: int, b: int) -> None:
    first, second = (keys.image_name(episode, frame, "cam") for frame in (a, b))
    assert (first < second) == (a < b)
    assert first < keys.episode_json_name(episode) < keys.source_name(episode)


@given(EPISODES, EPISODES, FRAMES, FRAMES)
def test_the_members_of_two_episodes_do_not_interleave(a: str, b: str, i: int, j: int) -> None:
    def members(episode: str, frame: int) -> set[str]:
        image = keys.image_name(episode, frame, "cam")
        return {image, keys.episode_json_name(episode), keys.source_name(episode)}

    if a < b and not b.startswith(a):
        assert max(members(a, i)) < min(members(b, j))


def test_names_of_other_kinds_of_shard_parse_without_an_episode() -> None:
    assert keys.parse("0001.0.webp") == keys.Member("0001", None, None, None, "0.webp")
    assert keys.parse("block-7.txt.zst") == keys.Member("block-7", None, None, None, "txt.zst")
    assert keys.parse("ep-00.episode.json") == keys.Member("ep-00", "ep-00", None, None, "episode.json")


@pytest.mark.parametrize(
    "name",
    ["", "nodot", ".jpg", "a.", "a..jpg", "A.jpg", "a/b.jpg", "../a.jpg", "a b.jpg", "a.jpg\n", "é.jpg"]
    + ["a\0.jpg", "k" * 65 + ".jpg", "k" * 60 + "." + "c" * 40, "x-000042.episode.json"],
)
def test_names_outside_the_grammar_are_refused(name: str) -> None:
    with pytest.raises(FoundryError):
        keys.parse(name)


def test_what_would_break_the_order_or_the_grouping_is_refused() -> None:
    for frame in (-1, keys.MAX_FRAMES):
        with pytest.raises(FoundryError, match="999999"):
            keys.frame_key("ep", frame)
    with pytest.raises(FoundryError, match="ends like a frame key"):
        keys.image_name("ep-000001", 0, "cam")
    with pytest.raises(FoundryError, match="camera name 'Cam'"):
        keys.image_name("ep", 0, "Cam")
    with pytest.raises(FoundryError, match="'gif'"):
        keys.image_name("ep", 0, "cam", "gif")
