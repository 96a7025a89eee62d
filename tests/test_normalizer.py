"""Statistics of a space, and the normaliser fitted to them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.normalization.normalizer_report import HEADERS, as_text, report
from robot_foundry.normalization.representation import represented
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import FoundryError

SPACE = ActionSpace(
    [
        *dims_for("right.ee_position"),
        *dims_for("right.ee_rot6d"),
        *dims_for("right.gripper_opening"),
        *dims_for("right.joint_position", count=4),
        *dims_for("base.linear_velocity"),
    ]
)
CONSTANT, SELDOM, OFFSET = (SPACE.index(f"right.joint_position.{i}") for i in (0, 1, 2))
GRIPPER = SPACE.index("right.gripper_opening")
ABSENT = SPACE.index("base.linear_velocity.y")


def robot_rows(seed=0, num_rows=20_000):
    rng = np.random.default_rng(seed)
    rows = rng.normal(0.4, 0.2, (num_rows, len(SPACE)))
    rows[:, 3:9] = matrix_to_rot6d(axis_angle_to_matrix(rng.normal(0, 0.3, (num_rows, 3))))
    rows[:, GRIPPER] = rng.random(num_rows) < 0.995
    rows[:, CONSTANT] = 0.3
    rows[:, SELDOM] = np.where(rng.random(num_rows) < 0.995, 0.1, rng.uniform(0, 1, num_rows))
    rows[:, OFFSET] = 1000 + rng.normal(size=num_rows)
    return rows.astype(np.float32)


def present():
    mask_D = np.ones(len(SPACE), bool)
    mask_D[ABSENT] = False
    return mask_D


@pytest.fixture(scope="module")
def statistics():
    return Statistics.of(robot_rows(), present(), SPACE)


@pytest.fixture(scope="module")
def normalizer(statistics):
    return Normalizer.fit(statistics, SPACE)


def rules(normalizer):
    return {
        dim.name: scaling.rule for dim, scaling in zip(normalizer.space, normalizer.scalings, strict=True)
    }


def test_each_kind_has_its_rule(normalizer):
    found = rules(normalizer)
    assert {found[f"right.ee_position.{c}"] for c in "xyz"} == {"percentiles"}
    assert {found[f"right.ee_rot6d.{i}"] for i in range(6)} == {"identity"}
    assert found["right.gripper_opening"] == "range"
    assert found["right.joint_position.0"] == "constant"
    assert found["right.joint_position.1"] == "point mass"
    assert found["right.joint_position.2"] == "percentiles"
    assert found["base.linear_velocity.y"] == "no data"


def test_the_percentiles_go_to_the_ends_of_the_range(statistics, normalizer):
    rows = robot_rows().astype(np.float64)
    low, high = statistics.percentiles((1, 99))
    np.testing.assert_allclose(low[:3], np.percentile(rows[:, :3], 1, axis=0), atol=2e-3)
    columns = [0, 1, 2, OFFSET]
    for bound, end in ((low, -1), (high, 1)):
        row = np.where(present(), bound, 0.0)
        np.testing.assert_allclose(normalizer.normalize(row)[columns], end, atol=1e-9)
    assert normalizer.normalize(rows[:100])[:, 3:9] == pytest.approx(rows[:100, 3:9])


def test_a_gripper_that_is_open_nearly_always_still_has_two_ends(normalizer):
    rows = np.zeros((2, len(SPACE)), np.float32)
    rows[1, GRIPPER] = 1
    np.testing.assert_array_equal(normalizer.normalize(rows)[:, GRIPPER], [-1, 1])


def test_a_constant_is_zero_and_comes_back(normalizer):
    rows = np.random.default_rng(1).normal(size=(5, len(SPACE)))
    assert not normalizer.normalize(rows)[:, CONSTANT].any()
    np.testing.assert_array_equal(normalizer.denormalize(rows)[:, CONSTANT], np.float64(np.float32(0.3)))


def test_outliers_are_clipped_and_their_share_is_known(normalizer):
    rows = robot_rows(num_rows=200_000)
    far = rows.copy()
    far[:, :3] += 100
    assert normalizer.normalize(far)[:, :3] == pytest.approx(1.5)
    for i in (0, OFFSET):
        clipped = np.mean(np.abs(normalizer.normalize(rows.astype(np.float64))[:, i]) >= 1.5)
        assert normalizer.scalings[i].clipped == pytest.approx(clipped, abs=5e-4)
        assert 0 < normalizer.scalings[i].clipped < 0.01


masks = st.lists(st.booleans(), min_size=len(SPACE), max_size=len(SPACE))


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
def test_denormalize_undoes_normalize_inside_the_band(normalizer, mask, seed, dtype):
    rows = robot_rows(seed, 50).astype(dtype)
    mask = np.array(mask)
    real = mask & present()
    rows[:, ~real] = np.random.default_rng(seed).choice([np.nan, np.inf, 1e30, 0.0], (50, int((~real).sum())))
    normalized = normalizer.normalize(rows, mask)
    back = normalizer.denormalize(normalized, mask)
    assert normalized.dtype == back.dtype == dtype
    assert not normalized[:, ~real].any() and not back[:, ~real].any()
    inside = real & (np.abs(normalized) < 1.5)
    tolerance = 1e-5 * np.maximum(1, np.abs(rows[inside]))
    assert (np.abs(back - rows)[inside] <= tolerance).all()


def test_the_report_says_what_deserves_a_look(statistics, normalizer):
    rows = {row["dim"]: row for row in report(normalizer)}
    assert list(rows) == list(SPACE.names)
    x = rows["right.ee_position.x"]
    low, high = statistics["right.ee_position.x"].percentile([1, 99])
    assert (x["at_minus_1"], x["at_1"]) == pytest.approx((low, high)) and x["note"] == ""
    assert 0 < x["clipped_percent"] < 1 and x["unit"] == "m"
    assert rows["right.gripper_opening"]["note"] == "discrete: 2 values"
    assert rows["right.joint_position.0"]["note"] == "constant 0.3: the policy cannot move it"
    assert rows["right.joint_position.0"]["at_1"] is None
    assert "near-constant" in rows["right.joint_position.1"]["note"]
    assert "no data" in rows["base.linear_velocity.y"]["note"]
    assert rows["right.ee_rot6d.0"]["rule"] == "identity" and rows["right.ee_rot6d.0"]["note"] == ""
    tails = np.random.default_rng(8).standard_t(3, (20_000, 1))
    wide = Normalizer.fit(Statistics.of(tails, None, ActionSpace(["right.height"])), percentiles=(5, 95))
    assert report(wide)[0]["note"] == "outlier 99.81; much is clipped"
    assert report(wide)[0]["clipped_percent"] > 1

    lines = as_text(report(normalizer)).splitlines()
    assert len(lines) == 1 + len(SPACE) and lines[0].split() == list(HEADERS)
    assert lines[1 + GRIPPER].split() == [
        *("right.gripper_opening", "1", "absolute", "range", "0", "1", "0", "discrete:", "2", "values")
    ]


def test_scalings_for_another_space_go_by_index(normalizer):
    space = ActionSpace(["base.linear_velocity.x", "right.gripper_opening", "right.height"])
    onto = normalizer.onto(space, [SPACE.index("base.linear_velocity.x"), GRIPPER, None])
    rows = np.array([[0.4, 1.0, 7.0]])
    full = np.zeros((1, len(SPACE)))
    full[:, [SPACE.index("base.linear_velocity.x"), GRIPPER]] = 0.4, 1.0
    expected = normalizer.normalize(full)[:, [SPACE.index("base.linear_velocity.x"), GRIPPER]]
    np.testing.assert_array_equal(onto.normalize(rows), [[*expected[0], 0.0]])
    assert onto.clip == normalizer.clip and Normalizer.from_json(onto.to_json()) == onto


def test_a_mask_for_each_row_of_a_batch_covers_its_steps(normalizer):
    rng = np.random.default_rng(2)
    x_BTD = robot_rows(3, 24).reshape(4, 6, len(SPACE))
    mask_BD = rng.random((4, len(SPACE))) < 0.5
    by_row = normalizer.normalize(x_BTD, mask_BD)
    full = normalizer.normalize(x_BTD, np.broadcast_to(mask_BD[:, None], x_BTD.shape))
    np.testing.assert_array_equal(by_row, full)
    assert by_row[np.broadcast_to(mask_BD[:, None], x_BTD.shape) & present()].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_gives_the_same_numbers(normalizer, dtype):
    torch = pytest.importorskip("torch")
    x_BTD = robot_rows(4, 4096).astype(dtype).reshape(64, 64, len(SPACE))
    x_BTD[0, 0, :] *= 50
    x_BTD[..., ABSENT] = np.nan
    mask_BD = np.random.default_rng(5).random((64, len(SPACE))) < 0.8
    for given_mask in (None, mask_BD):
        mask = None if given_mask is None else torch.from_numpy(given_mask)
        for call in (normalizer.normalize, normalizer.denormalize):
            expected, found = call(x_BTD, given_mask), call(torch.from_numpy(x_BTD), mask)
            assert str(found.dtype) == f"torch.{dtype}"
            np.testing.assert_array_equal(found.numpy(), expected)


def test_json_round_trips_are_exact(statistics, normalizer):
    back = Normalizer.from_json(normalizer.to_json())
    assert back == normalizer and back.to_json() == normalizer.to_json()
    assert Statistics.from_json(statistics.to_json()) == statistics
    assert json.loads(normalizer.to_json())["dims"][GRIPPER]["rule"] == "range"
    for read in (Normalizer.from_json, Statistics.from_json):
        with pytest.raises(FoundryError, match="format 2"):
            read('{"format": 2}')


def test_statistics_merge_over_the_union_of_unlike_robots():
    arm = ActionSpace([*dims_for("right.ee_position"), *dims_for("right.joint_position", count=2)])
    base = ActionSpace([*dims_for("base.linear_velocity"), *dims_for("right.joint_position", count=1)])
    union = ActionSpace.union(arm, base, embodiments=["panda", "ur5"])
    rng = np.random.default_rng(6)
    arm_rows, base_rows = rng.normal(size=(300, 5)), rng.normal(size=(500, 3))
    leaves = [
        *(Statistics.of(part, None, arm).into(union, embodiment="panda") for part in np.split(arm_rows, 3)),
        *(Statistics.of(part, None, base).into(union, embodiment="ur5") for part in np.split(base_rows, 5)),
    ]
    merged = Statistics.merge_all(leaves)
    assert Statistics.merge_all(leaves[::-1]) == merged
    assert merged["panda:right.joint_position.1"].count == 300
    assert merged["ur5:right.joint_position.0"].count == 500
    np.testing.assert_array_equal(merged.counts[[union.index(name) for name in arm.names[:3]]], 300)
    assert Statistics.merge_all([merged, Statistics.empty(union)]).counts.sum() == 300 * 5 + 500 * 3

    with pytest.raises(FoundryError, match="unlike spaces"):
        Statistics.merge_all([Statistics.of(arm_rows, None, arm), Statistics.of(base_rows, None, base)])


def test_statistics_leave_out_what_the_mask_denies():
    rows = robot_rows(7, 1000)
    row_mask = np.arange(1000) % 4 != 0
    by_row = Statistics.of(rows, row_mask[:, None], SPACE)
    assert by_row == Statistics.of(rows[row_mask], None, SPACE)
    chunks = Statistics.of(rows.reshape(10, 100, -1), row_mask.reshape(10, 100, 1), SPACE)
    assert chunks.counts.tolist() == [750] * len(SPACE)


def test_what_does_not_fit_is_refused(statistics):
    with pytest.raises(FoundryError, match="right.ee_position.x.*relative_tool"):
        Normalizer.fit(statistics, represented(SPACE, "relative_tool"))
    with pytest.raises(FoundryError, match="percentiles"):
        Normalizer.fit(statistics, SPACE, percentiles=(99, 1))
    with pytest.raises(FoundryError, match="do not fit 16"):
        Normalizer.fit(statistics, SPACE).normalize(np.zeros(3))
    with pytest.raises(FoundryError, match="do not fit"):
        Statistics.of(np.zeros((4, 3)), None, SPACE)
    wider = ActionSpace([*SPACE, *dims_for("left.gripper_opening")])
    assert rules(Normalizer.fit(statistics, wider))["left.gripper_opening"] == "no data"
