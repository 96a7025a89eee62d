"""Names, unions and the scatter and gather between spaces."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.normalization.space import QUANTITIES, ActionSpace, Dim, check_embodiment, dims_for
from robot_foundry.runtime.errors import FoundryError

ARM = ("ee_position", "ee_rot6d", "gripper_opening")


def arm(part="right", joints=0):
    dims = [dim for quantity in ARM for dim in dims_for(f"{part}.{quantity}")]
    return ActionSpace([*dims, *dims_for(f"{part}.joint_position", count=joints)])


@st.composite
def spaces(draw):
    """Spaces from one pool of names, with joints, in any order."""
    pool = [dim for part in ("right", "left", "right_hand") for dim in arm(part, joints=3)]
    pool += dims_for("base.linear_velocity")
    return ActionSpace(draw(st.lists(st.sampled_from(pool), unique=True, max_size=20)))


def test_a_quantity_expands_to_its_dims_with_unit_and_kind():
    assert [dim.name for dim in dims_for("right.ee_position")] == [f"right.ee_position.{c}" for c in "xyz"]
    assert {(dim.unit, dim.kind) for dim in dims_for("left.ee_rot6d")} == {("1", "rotation")}
    assert dims_for("right.gripper_opening") == (Dim("right.gripper_opening", "1", "gripper"),)
    assert len(dims_for("right.joint_position", count=7)) == 7
    assert ActionSpace(["right.ee_position", "right.gripper_opening"]).names[3] == "right.gripper_opening"
    for quantity in QUANTITIES:
        for dim in dims_for(f"right.{quantity}", count=2):
            assert (dim.part, dim.quantity) == ("right", quantity)


def test_only_joints_belong_to_one_embodiment():
    unshared = {dim.quantity for dim in arm(joints=2) if not dim.shared}
    assert unshared == {"joint_position"}
    assert not dims_for("right.joint_velocity.0")[0].shared
    assert dims_for("right.joint_position.0", shared=True)[0].shared


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dim("Right.ee_position.x", "m", "position"), "no dimension name"),
        (lambda: Dim("x", "m", "position"), "no dimension name"),
        (lambda: Dim("right.ee_position.x", "m", "postion"), "did you mean 'position'"),
        (lambda: Dim("right.ee_position.x", "m", "position", "relativ_tool"), "did you mean 'relative_tool'"),
        (lambda: Dim("right.ee_position.x", "", "position"), "no unit"),
        (lambda: dims_for("right.ee_positon"), "did you mean 'ee_position'"),
        (lambda: dims_for("right.ee_position.w"), "the components x, y, z"),
        (lambda: dims_for("right.joint_position"), "give count="),
        (lambda: ActionSpace(["right.gripper_opening"] * 2), "appears twice"),
        (lambda: arm().index("right.ee_position.w"), "did you mean"),
        (lambda: Dim.from_json({"name": "right.yaw", "unit": "rad", "knd": "base"}), "did you mean 'kind'"),
        (lambda: Dim.from_json({"name": "right.yaw", "unit": "rad"}), "lacks kind"),
        (lambda: arm().scatter(np.ones(3), arm()), "does not fit 10"),
        (lambda: arm("left").scatter(np.ones(10), arm()), "left.ee_position.x"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(FoundryError, match=message):
        make()


@pytest.mark.parametrize(
    ("one", "other", "field"),
    [
        (Dim("right.suction", "Pa", "other"), Dim("right.suction", "bar", "other"), "unit"),
        (Dim("right.suction", "1", "other"), Dim("right.suction", "1", "gripper"), "kind"),
        (arm().dims[0], Dim("right.ee_position.x", "m", "position", "relative_tool"), "representation"),
        (
            Dim("base.joint_position.0", "rad", "joint"),
            Dim("base.joint_position.0", "m", "joint"),
            "unit",
        ),
    ],
)
def test_one_name_with_two_meanings_is_refused(one, other, field):
    with pytest.raises(FoundryError, match=f"'{one.name}' has the {field} '.*' in one space and '.*' in"):
        ActionSpace.union(ActionSpace([one]), ActionSpace([other]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dim("right.ee_position.x", "cm", "position"), "the unit of ee_position is m, not 'cm'"),
        (
            lambda: Dim("right.ee_position.x", "m", "other"),
            "the kind of ee_position is position, not 'other'",
        ),
        (lambda: Dim("right.ee_position.w", "m", "position"), "ee_position has the components x, y, z"),
        (lambda: Dim("right.ee_position", "m", "position"), "ee_position has the components x, y, z"),
        (lambda: Dim("right.gripper_opening.0", "1", "gripper"), "gripper_opening has no components"),
        (lambda: Dim("right.joint_position.x", "rad", "joint"), "joint_position has the components 0, 1, …"),
        (lambda: Dim("right.joint_position.0", "deg", "joint"), "of joint_position is rad or m, not 'deg'"),
        (
            lambda: Dim("right.gripper_opening", "1", "gripper", "delta"),
            "of gripper_opening is absolute, not",
        ),
        (
            lambda: Dim("right.joint_position.0", "rad", "joint", "relative_tool"),
            "representation of joint_position is absolute or relative or delta",
        ),
        (lambda: check_embodiment("Franka Panda"), "'Franka Panda' is no name of an embodiment"),
    ],
)
def test_a_name_of_the_scheme_means_what_the_scheme_says(make, message):
    with pytest.raises(FoundryError, match=message):
        make()


def test_names_beyond_the_scheme_are_free():
    assert Dim("right.suction_pressure", "Pa", "other").shared
    assert Dim("gantry.joint_position.0", "m", "joint").unit == "m"
    assert Dim("tail.wag.fast", "1", "other", "delta").component == "fast"


@settings(max_examples=60, deadline=None)
@given(spaces(), spaces(), spaces())
def test_union_laws(a, b, c):
    union = ActionSpace.union(a, b, c)
    assert union == ActionSpace.union(c, a, b)
    assert union == ActionSpace.union(ActionSpace.union(a, b), c)
    assert union == ActionSpace.union(union, a)
    assert set(union.names) == {*a.names, *b.names, *c.names}


def test_union_keeps_the_natural_order_of_arms():
    union = ActionSpace.union(arm("left", joints=12), arm("right", joints=12))
    natural = [
        dim
        for part in ("right", "left")
        for quantity in ("ee_position", "ee_rot6d", "joint_position", "gripper_opening")
        for dim in dims_for(f"{part}.{quantity}", count=12)
    ]
    assert union == ActionSpace(natural)


@settings(max_examples=60, deadline=None)
@given(spaces(), spaces(), st.sampled_from([(), (4,), (2, 3)]), st.integers(0, 2**32))
def test_gather_undoes_scatter(space, other, batch, seed):
    union = ActionSpace.union(space, other)
    x = np.random.default_rng(seed).normal(size=(*batch, len(space))).astype(np.float32)
    y, mask = space.scatter(x, union)
    assert y.shape == (*batch, len(union)) and y.dtype == np.float32
    assert [union.names[i] for i in np.flatnonzero(mask)] == [n for n in union.names if n in space]
    assert not y[..., ~mask].any()
    np.testing.assert_array_equal(space.gather(y, union), x)


def test_joints_of_unlike_embodiments_are_kept_apart():
    panda, ur5 = arm(joints=7), arm(joints=6)
    union = ActionSpace.union(panda, ur5, embodiments=["panda", "ur5"])
    assert len(union) == 10 + 7 + 6
    assert {"panda:right.joint_position.6", "ur5:right.joint_position.5"} <= set(union.names)
    assert "right.joint_position.0" not in union

    x = np.arange(16.0)
    y, mask = ur5.scatter(x, union, embodiment="ur5")
    assert mask.sum() == 16 and not mask[union.index("panda:right.joint_position.0")]
    assert y[union.index("ur5:right.joint_position.5")] == 15
    np.testing.assert_array_equal(ur5.gather(y, union, embodiment="ur5"), x)

    assert ActionSpace.union(panda, panda, embodiments=["panda", "panda"]) == ActionSpace.union(panda)
    shared = ActionSpace(dims_for("right.joint_position", count=6, shared=True))
    assert ActionSpace.union(shared, shared, embodiments=["ur5", "ur5e"]) == shared


@settings(max_examples=50, deadline=None)
@given(spaces())
def test_json_round_trip(space):
    back = ActionSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert back == space and hash(back) == hash(space)
