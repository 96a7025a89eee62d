import io
import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

import robot_foundry
from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import Flag
from robot_foundry.loader.batch import Batch
from robot_foundry.loader.load import Loader, WindowSpec, load
from robot_foundry.loader.source import OpenShards
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.reader import ShardReader

FIXTURES = runpy.run_path(str(Path(__file__).with_name("loader_fixtures.py")))
WINDOW = WindowSpec(cameras=("primary", "wrist_right"), image=(24, 32), horizon=5)
WEIGHTS = {"sim": 0.6, "real": 0.4}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two datasets of unlike robots, rates and cameras, with every flaw that the loader must mask."""
    store = Store(tmp_path_factory.mktemp("store"))
    make = FIXTURES["write_version"]
    cameras = {"primary": (24, 32), "wrist_right": (20, 20)}
    sim = make(store, "sim", [[12, 9], [17]], cameras=cameras)
    real = make(
        store, "real", [[11, 2], [1, 13]], cameras={"primary": (30, 40)}, embodiment="ur5", joints=6, fps=10
    )
    return store, {"sim": sim, "real": real}


def open_loader(store, **options) -> Loader:
    defaults = {"seed": 5, "global_batch": 16, "store": store, "split": "all", "threads": 0}
    return load(options.pop("ref", WEIGHTS), options.pop("window", WINDOW), **(defaults | options))


def contents(batches: list[Batch]) -> dict[int, tuple]:
    """Every field of every row as bytes, by position k."""
    rows = {}
    for batch in batches:
        for i in range(len(batch)):
            row = batch.rows(slice(i, i + 1))
            arrays = [v for v in vars(row).values() if isinstance(v, np.ndarray)]
            pictures = [row.images[role] for role in sorted(row.images)]
            masks = [row.image_mask[role] for role in sorted(row.image_mask)]
            fields = [(a.dtype.str, a.shape, a.tobytes()) for a in arrays + pictures + masks]
            rows[int(row.k_B[0])] = (row.step, row.modality, row.instruction, row.counts["action"], *fields)
    return rows


def test_global_batches_are_the_same_for_every_world_thread_count_and_accumulation(written):
    store, _ = written
    lanes_of_four = make_mixture(store, WEIGHTS, split="all", lanes=4, span=2)
    for ref, thread_counts in ((WEIGHTS, (0, 1, 4)), (lanes_of_four, (0, 4))):
        with open_loader(store, ref=ref) as loader:
            expected = contents([loader.batch(b) for b in range(4)])
        assert sorted(expected) == list(range(64))
        for world in (1, 2, 4):
            for threads in thread_counts:
                found = []
                for rank in range(world):
                    with open_loader(store, ref=ref, rank=rank, world=world, threads=threads) as loader:
                        batches = [next(loader) for _ in range(4)]
                        assert {len(batch) for batch in batches} == {16 // world}
                        found += batches
                for parts in (1, 2):
                    size = 16 // world // parts
                    micro = [b.rows(slice(p * size, (p + 1) * size)) for b in found for p in range(parts)]
                    assert contents(micro) == expected
                    assert sum(m.counts["action"] for m in micro) == sum(b.counts["action"] for b in found)


def test_a_resumed_loader_goes_on_with_the_next_batch(written):
    store, _ = written
    with open_loader(store, threads=2) as first, open_loader(store, threads=1) as second:
        seen = [next(first) for _ in range(5)]
        state = first.state_dict()
        assert state["b"] == 5  # whatever was read ahead
        second.load_state_dict(state)
        assert contents([next(second) for _ in range(3)]) == contents([next(first) for _ in range(3)])
        second.load_state_dict(state | {"b": 2})
        assert contents([next(second)]) == contents([seen[2]])


def test_the_state_of_another_order_is_refused_in_one_sentence(written):
    store, _ = written
    with open_loader(store) as loader:
        state = loader.state_dict()
        assert {"b", "seed", "mixture_id", "order_version"} <= set(state)
        loader.load_state_dict({k: v for k, v in state.items() if k != "global_batch"})
        for name, value in (("seed", 6), ("mixture_id", "0" * 32), ("order_version", 2), ("global_batch", 8)):
            with pytest.raises(FoundryError, match=f"another order of samples: it has {name} {value}"):
                loader.load_state_dict(state | {name: value})
        with pytest.raises(FoundryError, match="lacks b, seed"):
            loader.load_state_dict({"mixture_id": "x", "order_version": 1})


def test_a_mixture_is_the_same_however_it_is_named(written):
    store, _ = written
    committed = commit_mixture(store, make_mixture(store, WEIGHTS, split="all"), "both")
    named = [
        "sim=3,real=2",
        "sim@v1=0.6,real=0.4",
        "both",
        str(committed),
        make_mixture(store, WEIGHTS, split="all"),
    ]
    with open_loader(store) as loader:
        expected, identity = contents([next(loader)]), loader.mixture.id
    for ref in named:
        with open_loader(store, ref=ref) as loader:
            assert (loader.mixture.id, contents([next(loader)])) == (identity, expected)


def test_robot_foundry_load_has_useful_defaults(written):
    store, _ = written
    with robot_foundry.load("sim", seed=0, global_batch=32, store=store) as loader:
        batch = next(loader)
    assert batch.images["primary"].shape == (32, 2, 24, 32, 3)
    assert batch.action_BTA.shape == (32, 16, 10)
    assert loader.mixture.components[0].selection["split"] == "train"


# Windows, once more from the written episodes, row by row, with SciPy and Pillow.


def reference(episode, frame, schema, window, spaces):
    state_space, action_space = spaces
    rows = [max(0, frame - lag * window.stride) for lag in reversed(range(window.history))]
    own = schema.state_space()
    at = [state_space.index(n if n in state_space else f"{schema.embodiment}:{n}") for n in own.names]
    state, state_mask = np.zeros((window.history, len(state_space))), np.zeros(len(state_space), bool)
    state[:, at] = episode.state[rows]
    state_mask[at] = not any(episode.flags[row] & Flag.INVALID_STATE for row in rows)
    state *= state_mask
    action, step_mask = np.zeros((window.horizon, len(action_space))), np.zeros(window.horizon, bool)
    anchored = not episode.flags[frame] & Flag.INVALID_STATE
    seen_from, seen_from_ok = episode.state[frame, :10], anchored
    for step in range(window.horizon):
        row = min(frame + step * window.stride, len(episode.flags) - 1)
        target = episode.target[row]
        target_ok = np.isfinite(target).all() and not episode.flags[row] & Flag.INVALID_ACTION
        usable = anchored and seen_from_ok and target_ok
        if usable:
            origin, frame_of_reference = pose_of(seen_from)
            position, rotation = pose_of(target)
            relative = (frame_of_reference.inv() * rotation).as_matrix()
            action[step, :3] = frame_of_reference.inv().apply(position - origin)
            action[step, 3:9] = relative[:, :2].T.reshape(-1)
            action[step, 9] = target[9]
        step_mask[step] = usable and frame + step * window.stride < len(episode.flags)
        if window.representation == "delta":
            seen_from, seen_from_ok = target, target_ok
    images, masks = {}, {}
    for role in window.cameras:
        stored = episode.images.get(role, [None] * len(episode.flags))
        images[role] = np.stack([picture(stored[row], window.image) for row in rows])
        masks[role] = [stored[row] is not None for row in rows]
    texts = {text for start, end, text in episode.notes if start <= frame < end} or {""}
    return state, state_mask, action, step_mask, images, masks, texts


def pose_of(values):
    """Position and rotation of (x y z, rot6d, …); rot6d holds the first two columns."""
    first, second = values[3:6].astype(float), values[6:9].astype(float)
    return values[:3].astype(float), Rotation.from_matrix(
        np.stack([first, second, np.cross(first, second)], axis=1)
    )


def picture(data, size):
    if data is None:
        return np.zeros((*size, 3), np.uint8)
    image = Image.open(io.BytesIO(data))
    return np.asarray(
        image if image.size == size[::-1] else image.resize(size[::-1], Image.Resampling.BILINEAR)
    )


@pytest.mark.parametrize(
    "window",
    [
        WINDOW,
        WindowSpec(horizon=4, history=3, stride=2, image=(16, 16)),
        WindowSpec(representation="delta", cameras=()),
    ],
    ids=["plain", "strided", "delta"],
)
def test_windows_are_those_of_the_stored_episodes(written, window):
    store, made = written
    with open_loader(store, window=window) as loader:
        names = [component.name for component in loader.mixture.components]
        seen = {name: 0 for name in names}
        for b in range(8):
            batch = loader.batch(b)
            dataset, _, sample = loader._order.at(batch.k_B)
            for i in range(len(batch)):
                source = made[names[dataset[i]]]
                episode, frame = source.rows()[sample[i]]
                expected = reference(episode, frame, source.schema, window, loader.spaces)
                state, state_mask, action, step_mask, images, masks, texts = expected
                assert np.array_equal(batch.state_BHD[i], state.astype(np.float32))
                assert np.array_equal(batch.state_mask_BD[i], state_mask)
                assert np.array_equal(batch.step_mask_BT[i], step_mask)
                np.testing.assert_allclose(batch.action_BTA[i], action, atol=2e-6)
                assert batch.action_dim_mask_BA[i].all()
                for role in window.cameras:
                    assert np.array_equal(batch.images[role][i], images[role])
                    assert batch.image_mask[role][i].tolist() == masks[role]
                assert batch.instruction[i] in texts
                assert batch.dt_B[i] == np.float32(window.stride / source.schema.fps)
                assert loader.embodiments[batch.embodiment_B[i]] == source.schema.embodiment
                seen[names[dataset[i]]] += 1
            assert batch.counts["action"] == batch.step_mask_BT.sum() * 10
    assert all(count >= len(made[name].rows()) for name, count in seen.items())


def test_what_is_done_to_a_batch_stays_in_it(written):
    store, _ = written
    with open_loader(store) as loader:
        batch = loader.batch(0)
        expected = contents([batch])
        for values in (
            batch.state_BHD,
            batch.action_BTA,
            batch.step_mask_BT,
            batch.k_B,
            *batch.images.values(),
        ):
            values[...] = 1
        assert contents([loader.batch(0)]) == expected


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("threads", [0, 2])
def test_few_descriptors_serve_many_shards(tmp_path, monkeypatch, threads):
    store = Store(tmp_path)
    FIXTURES["write_version"](store, "sim", [[6]] * 12, cameras={"primary": (16, 16)})
    options = {"ref": "sim", "window": WindowSpec(), "global_batch": 72, "threads": threads}
    with open_loader(store, **options) as loader:
        expected = contents([loader.batch(0)])
        assert open_tars(tmp_path) == 12
    assert open_tars(tmp_path) == 0
    monkeypatch.setattr("robot_foundry.loader.load.OpenShards", partial(OpenShards, limit=2))
    with open_loader(store, **options) as loader:
        assert contents([loader.batch(0)]) == expected
        assert open_tars(tmp_path) <= 2


def open_tars(folder: Path) -> int:
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.is_relative_to(folder) and link.suffix == ".tar" for link in links)


def test_several_instructions_take_turns_by_position(written):
    store, _ = written
    with open_loader(store, ref="sim", global_batch=64) as loader:
        texts = [text for b in range(4) for text in loader.batch(b).instruction]
    starts = sum(text.startswith("start") for text in texts)
    assert 0 < starts < len(texts) and {text.split()[0] for text in texts} == {"lift", "start"}


@pytest.mark.parametrize("representation", ["relative_tool", "relative_base", "delta", "absolute"])
def test_nothing_is_nan_and_what_is_masked_is_zero(written, representation):
    store, _ = written
    window = WindowSpec(representation=representation, horizon=4, cameras=())
    with open_loader(store, window=window, global_batch=64) as loader:
        batches = [loader.batch(b) for b in range(3)]
    for batch in batches:
        for values in (batch.state_BHD, batch.action_BTA, batch.dt_B, batch.weight_B):
            assert np.isfinite(values).all()
        assert not (batch.state_BHD * ~batch.state_mask_BD[:, None]).any()
        assert not (batch.action_BTA * ~batch.action_dim_mask_BA[:, None]).any()
    assert any(not batch.state_mask_BD.all() for batch in batches)
    assert any(not batch.step_mask_BT.all() for batch in batches)


def test_what_is_stored_where_a_flag_says_invalid_has_no_influence(tmp_path):
    batches = []
    for garbage in (1e6, np.nan):
        store = Store(tmp_path / str(garbage))
        make = FIXTURES["write_version"]
        make(store, "sim", [[12, 9]], cameras={"primary": (16, 16)}, garbage=garbage)
        with open_loader(store, ref="sim", window=WindowSpec(horizon=4), global_batch=21) as loader:
            batch = loader.batch(0)
            _, _, sample = loader._order.at(batch.k_B)
        batches.append([batch.rows(slice(i, i + 1)) for i in np.argsort(sample)])
    for one, other in zip(*batches, strict=True):
        for name in ("state_BHD", "state_mask_BD", "action_BTA", "step_mask_BT"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_statistics_count_what_an_epoch_of_batches_holds(tmp_path):
    store = Store(tmp_path)
    FIXTURES["write_version"](store, "sim", [[12, 9], [30]], flaws=False)
    window = WindowSpec(horizon=4, cameras=())
    with load("sim", window, seed=0, global_batch=1, store=store, threads=0) as loader:
        state, action = loader.normalizer_statistics()
        samples = loader.mixture.components[0].num_samples
        counted = sum(int(loader.batch(b).step_mask_BT.sum()) for b in range(samples))
    assert {digest.count for digest in action.digests} == {counted}
    assert {digest.count for digest in state.digests} == {samples}


# Corruption.


def damage(store, loader, dataset, member_end):
    """Flip one byte in the middle of the first image member whose name ends so; the member's frame row."""
    source = next(s for s in loader._reader._sources if s.component.name == dataset)
    reader = source.shard(0).reader
    names = reader.index["name"].to_pylist()
    row = next(i for i, name in enumerate(names) if name.endswith(member_end))
    offset = reader.index["offset"][row].as_py() + reader.index["size"][row].as_py() // 2
    path = store.storage.local_path(reader.tar_path)
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)
    return names[row]


@pytest.fixture
def sim_store(tmp_path):
    store = Store(tmp_path)
    FIXTURES["write_version"](store, "sim", [[12, 9], [17]], cameras={"primary": (24, 32)})
    return store


@pytest.mark.parametrize("threads", [0, 3])
def test_a_flipped_byte_is_substituted_and_changes_no_other_row(sim_store, threads):
    window = WindowSpec(horizon=4)
    options = {"ref": "sim", "window": window, "threads": threads, "global_batch": 38}
    with open_loader(sim_store, **options) as loader:
        clean = contents([next(loader) for _ in range(4)])
        assert loader.substitutions == ()
        member = damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    with open_loader(sim_store, **options) as loader:
        batches = [next(loader) for _ in range(4)]
        substitutions = loader.substitutions
        dataset, _, sample = loader._order.at(np.arange(4 * 38))
    found = contents(batches)
    changed = {k for k in clean if clean[k] != found[k]}
    # Frame 5 of the first episode is seen from the anchors 5 and 6.
    assert {int(sample[k]) for k in changed} == {5, 6}
    assert changed == {item.k for item in substitutions} and len(changed) == 8
    for item in substitutions:
        assert (item.dataset, item.sample) == ("sim", sample[item.k])
        assert item.substitute not in (5, 6)
        assert member in item.reason and "checksum" in item.reason
    # A substitute is that sample as it is elsewhere; its own instruction choice is keyed by k.
    images = {int(sample[k]): row for batch in batches for k, row in rows_of(batch)}
    for item in substitutions:
        row = next(row for batch in batches for k, row in rows_of(batch) if k == item.k)
        assert np.array_equal(row.images["primary"], images[item.substitute].images["primary"])
        assert np.array_equal(row.action_BTA, images[item.substitute].action_BTA)


def rows_of(batch):
    return [(int(batch.k_B[i]), batch.rows(slice(i, i + 1))) for i in range(len(batch))]


def test_substitution_depends_on_neither_threads_nor_company(sim_store):
    with open_loader(sim_store, ref="sim", window=WindowSpec(), global_batch=38) as loader:
        damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    found = []
    for threads, world in ((0, 1), (4, 2)):
        batches, substitutions = [], set()
        for rank in range(world):
            with open_loader(
                sim_store,
                ref="sim",
                window=WindowSpec(),
                global_batch=38,
                threads=threads,
                rank=rank,
                world=world,
            ) as loader:
                batches += [next(loader) for _ in range(2)]
                substitutions |= set(loader.substitutions)
        found.append((contents(batches), substitutions))
    assert found[0] == found[1]
    assert len(found[0][1]) == 4


def test_too_much_corruption_ends_the_run(sim_store):
    with open_loader(sim_store, ref="sim", window=WindowSpec(), global_batch=38) as loader:
        damage(sim_store, loader, "sim", "-000005.primary_camera.jpg")
    with (
        open_loader(
            sim_store, ref="sim", window=WindowSpec(), global_batch=38, max_substitutions=3
        ) as loader,
        pytest.raises(FoundryError, match="4 samples were corrupt, above the limit of 3"),
    ):
        for _ in range(2):
            next(loader)


def test_a_read_that_fails_once_is_repeated(sim_store, monkeypatch):
    read, failed = ShardReader.read, set()

    def read_badly_once(self, row):
        data = read(self, row)
        if row not in failed:
            failed.add(row)
            return data[: len(data) // 2]
        return data

    with open_loader(sim_store, ref="sim", window=WindowSpec()) as loader:
        expected = contents([loader.batch(0)])
        monkeypatch.setattr(ShardReader, "read", read_badly_once)
        assert contents([loader.batch(0)]) == expected
        assert failed and loader.substitutions == ()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_file_that_cannot_be_read_stops_the_run(sim_store, threads):
    with open_loader(sim_store, ref="sim", window=WindowSpec(), threads=threads) as loader:
        for path in Path(sim_store.url.removeprefix("file://")).rglob("*.tar"):
            path.unlink()
        with pytest.raises((FoundryError, OSError), match="tar"):
            next(loader)


# What cannot be loaded.


def test_windows_that_the_datasets_cannot_give_are_refused(written):
    store, _ = written
    with pytest.raises(FoundryError, match=r"role 'primry', did you mean 'primary'\?"):
        open_loader(store, window=WindowSpec(cameras=("primry",)))
    with pytest.raises(FoundryError, match="unlike sizes .24 x 32, 30 x 40."):
        open_loader(store, window=WindowSpec())
    with pytest.raises(FoundryError, match="next_stat"):
        open_loader(store, window=WindowSpec(stream="next_stat"))
    with pytest.raises(FoundryError, match="did you mean 'relative_tool'"):
        WindowSpec(representation="relativ_tool")
    with pytest.raises(FoundryError, match="horizon 0 is below 1; stride -1 is below 1"):
        WindowSpec(horizon=0, stride=-1)


def test_a_batch_that_the_ranks_cannot_share_is_refused(written):
    store, _ = written
    with pytest.raises(FoundryError, match=r"global_batch 16 cannot be shared equally by 3 ranks; rank 3"):
        open_loader(store, world=3, rank=3)


def test_a_representation_needs_its_reference_in_the_state(tmp_path):
    store = Store(tmp_path)
    FIXTURES["write_version"](store, "blind", [[9]], state=["right.gripper_opening"])
    with pytest.raises(FoundryError, match="'blind', stream 'next_state': .*state"):
        open_loader(store, ref="blind", window=WindowSpec(cameras=()))
    with open_loader(store, ref="blind", window=WindowSpec(cameras=(), representation="absolute")) as loader:
        assert next(loader).action_BTA.shape == (16, 16, 10)


def test_unions_qualify_joints_and_name_the_spaces_of_datasets(written):
    store, made = written
    with open_loader(store) as loader:
        state, action = loader.spaces
        own_state, own_action = loader.dataset_spaces["real"]
    joints = [dim.name for dim in dims_for("right.joint_velocity", count=6)]
    assert set(state.names) == set(made["sim"].schema.state_space().names) | {
        f"ur5:{name}" for name in joints
    }
    assert isinstance(action, ActionSpace) and action.dims[0].representation == "relative_tool"
    assert own_state == made["real"].schema.state_space()
    assert own_action.dims[-1].representation == "absolute"
