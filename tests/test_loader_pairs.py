"""A loader of rows of pairs: what they hold, what is cut, how pictures come in, and what is damaged.

That it is the same whatever the world, the threads or the process is tested as with robots, in
test_loader_batches and test_loader_processes.

Legend: B rows, S tokens of a row, N pictures, H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.batch_loaders import contents
from foundry_testing.pair_ingests import DATASET, ingest, some_samples, write_tar
from foundry_testing.pairs import TestPair, encoded, random_picture, some_pairs, write_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

import robot_foundry
from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import Loader
from robot_foundry.loader.pairs.batch import PairBatch
from robot_foundry.loader.pairs.kind import rows_of
from robot_foundry.loader.pairs.spec import PairRows, PairSpec
from robot_foundry.loader.pairs.template import PairText, rendered
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.index import read_index
from robot_foundry.shards.pairs.pair import Turn
from robot_foundry.shards.pictures.decode import decode
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer

IMAGE, IMAGE_TOKENS = (16, 20), 4
TOKENIZER = ByteTokenizer()


def spec(length: int = 100, **rows: Any) -> PairSpec:
    return PairSpec(PairRows(length, image=IMAGE, **rows), image_tokens=IMAGE_TOKENS)


def open_pairs(store: Store, window: PairSpec, ref: Any = "some", **options: Any) -> Loader[PairBatch]:
    defaults = {"seed": 3, "global_batch": 4, "split": "all", "threads": 0, "store": store}
    loader: Loader[PairBatch] = robot_foundry.load(ref, window, **(defaults | options))
    return loader


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    write_pairs(store, "some", some_pairs(150), per_shard=40)
    return store


def epoch(loader: Loader[PairBatch]) -> list[PairBatch]:
    """Batches of one epoch of a loader of one component, whose rows the batch divides."""
    [count] = loader.counts()
    assert count % loader.global_batch == 0
    return [loader.batch(b) for b in range(count // loader.global_batch)]


def forms_of(pair: TestPair) -> dict[bytes, TestPair]:
    """All that the pair can be in a row, as bytes of its tokens."""
    turns = [Turn(role, text) for role, text in pair.turns]
    text = PairText(len(pair.pictures), dict(pair.captions), turns)
    count = len(pair.captions) + bool(pair.turns)
    made = (rendered(text, TOKENIZER, IMAGE_TOKENS, i / count) for i in range(count))
    return {item.ids_N.tobytes(): pair for item in made}


def segments(batch: PairBatch, b: int) -> list[tuple[int, int]]:
    """Where each pair of a row begins and ends."""
    segment_S = batch.segment_BS[b]
    return [
        (int(np.argmax(segment_S == number)), int((segment_S == number).sum()))
        for number in range(int(segment_S.max()) + 1)
    ]


@pytest.mark.parametrize("packed", [True, False])
def test_an_epoch_has_every_pair_once_with_its_text_and_pictures(store: Store, packed: bool) -> None:
    pairs = some_pairs(150)
    known = {form: pair for pair in pairs for form in forms_of(pair).items() for form, pair in [form]}
    found: Counter[int] = Counter()
    with open_pairs(store, spec(400, packed=packed), global_batch=1) as loader:
        for batch in epoch(loader):
            assert batch.cut_B.tolist() == [0]
            parts = segments(batch, 0)
            assert batch.pairs_B.tolist() == [len(parts)] and (packed or len(parts) == 1)
            picture = 0
            for start, size in parts:
                ids_N = batch.token_BS[0, start : start + size]
                pair = known[ids_N.tobytes()]
                found[id(pair)] += 1
                assert batch.target_BS[0, start : start + size - 1].tolist() == ids_N[1:].tolist()
                assert batch.position_BS[0, start : start + size].tolist() == list(range(size))
                assert not batch.learn_BS[0, start + size - 1]
                for item in pair.encoded:
                    at = int(batch.image_start_N[picture])
                    assert start <= at and at + IMAGE_TOKENS <= start + size
                    image = TOKENIZER.specials["<image>"]
                    assert (batch.token_BS[0, at : at + IMAGE_TOKENS] == image).all()
                    assert np.array_equal(batch.image_NHWC[picture], decode(item.data, IMAGE))
                    picture += 1
            assert picture == len(batch.image_NHWC) == batch.sizes["pictures"]
            used = sum(size for _, size in parts)
            assert (batch.segment_BS[0, used:] == -1).all() and not batch.learn_BS[0, used:].any()
            assert (batch.token_BS[0, used:] == TOKENIZER.pad).all() and batch.sizes["tokens"] == used
    assert found == dict.fromkeys(map(id, pairs), 1)


def test_what_is_learnt_are_answers_captions_and_their_ends(store: Store) -> None:
    with open_pairs(store, spec(), global_batch=8) as loader:
        batch = loader.batch(0)
    said = TOKENIZER.decode(batch.target_BS[batch.learn_BS], specials=True)
    assert "<image>" not in said and "What" not in said and "<|endoftext|>" in said and "<|end|>" in said
    assert batch.counts == {"answer": int(batch.learn_BS.sum())}


def test_rows_of_one_pair_are_as_long_as_the_longest_of_a_batch(store: Store) -> None:
    with open_pairs(store, spec(400, packed=False)) as loader:
        lengths = set()
        for b in range(8):
            batch = loader.batch(b)
            longest = int((batch.segment_BS >= 0).sum(axis=1).max())
            assert batch.token_BS.shape[1] == -(-longest // 8) * 8
            lengths.add(longest)
        assert len(lengths) > 1
    with open_pairs(store, spec(20, packed=False)) as loader:
        assert {loader.batch(b).token_BS.shape[1] for b in range(8)} == {20}


def test_what_does_not_fit_is_cut_and_told(store: Store) -> None:
    with open_pairs(store, spec(400, packed=False), global_batch=10) as loader:
        whole = epoch(loader)
    with open_pairs(store, spec(20, packed=False), global_batch=10) as loader:
        cut = epoch(loader)
    for before, after in zip(whole, cut, strict=True):
        kept_B = (after.segment_BS >= 0).sum(axis=1)
        assert ((before.segment_BS >= 0).sum(axis=1) - kept_B).tolist() == after.cut_B.tolist()
        assert (after.image_start_N + IMAGE_TOKENS <= kept_B[after.image_row_N]).all()
        assert len(after.image_row_N) <= len(before.image_row_N)
    assert sum(batch.sizes["cut"] for batch in cut) > 0


def test_several_captions_take_turns_by_position(store: Store) -> None:
    with open_pairs(store, spec(400, packed=False), global_batch=150) as loader:
        said = [
            [TOKENIZER.decode(row) for row in np.where(batch.learn_BS, batch.target_BS, TOKENIZER.pad)]
            for batch in (loader.batch(0), loader.batch(1), loader.batch(0))
        ]
    assert said[0] == said[2]
    forms = [Counter(text.startswith("a picture") for text in of_epoch) for of_epoch in said]
    assert all(0 < form[True] < 30 for form in forms)  # of 30 pairs with two captions
    assert {t for t in said[0] if "picture" in t} != {t for t in said[1] if "picture" in t}


@settings(max_examples=10, deadline=None)
@given(
    st.integers(4, 300),
    st.booleans(),
    st.sampled_from([None, "num_images > 0", "language = 'de'", "CAST(id AS INT) % 7 = 3"]),
    st.sampled_from(["train", "val", "all"]),
)
def test_any_selection_at_any_length_is_whole(
    store: Store, length: int, packed: bool, where: str | None, split: str
) -> None:
    mixture = make_mixture(store, {"some": 1}, where=where, split=split)
    with open_pairs(store, spec(length, packed=packed), mixture, split=split, global_batch=1) as loader:
        [part] = loader.opened.parts
        [count] = loader.counts()
        k_B = sorted(int(loader.positions(b)[0]) for b in range(count))
        [rows], _ = rows_of(loader.opened, loader.window)
    pairs = np.concatenate([rows[row] for row in range(len(rows))])
    assert count == len(rows) and k_B == list(range(count))
    assert sorted(pairs.tolist()) == list(range(part.select().num_samples))


def test_fit_and_size_are_those_of_the_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path)
    picture = encoded(random_picture(1, 40, 24), "jpg")
    write_pairs(store, "one", [TestPair([picture], {"caption": "x"})])
    for fit in ("pad", "crop", "stretch"):
        with open_pairs(store, spec(fit=fit), "one", global_batch=1) as loader:
            image_HWC = loader.batch(0).image_NHWC[0]
        assert np.array_equal(image_HWC, decode(picture.data, IMAGE, fit=fit))
    with pytest.raises(UsageError, match="hold no picture of 4"):
        spec(3)


def test_rows_are_packed_by_lengths_that_are_kept_and_enter_the_state(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_pairs(store, "some", some_pairs(150), per_shard=40)
    with open_pairs(store, spec()) as loader:
        state, expected = loader.state_dict(), contents([loader.batch(2)])
    cached = sorted(tmp_path.glob("cache/*/*"))
    assert [path.parent.name for path in cached] == ["pair-lengths"] * 4 + ["pair-rows"]
    before = [path.read_bytes() for path in cached]
    for path, data in zip(cached, before, strict=True):
        path.write_bytes(data[:-3])  # as a lost power leaves it
    with open_pairs(store, spec()) as loader:
        assert loader.state_dict() == state and contents([loader.batch(2)]) == expected
    assert [path.read_bytes() for path in cached] == before
    with open_pairs(store, spec()) as loader:  # from what is kept
        assert loader.state_dict() == state and contents([loader.batch(2)]) == expected
    for other in (spec(99), PairSpec(spec().rows, image_tokens=5), spec(packed=False)):
        with open_pairs(store, other) as loader, pytest.raises(FoundryError, match="another order"):
            loader.load_state_dict(state)


def test_rows_of_a_batch_keep_their_pictures(store: Store) -> None:
    with open_pairs(store, spec(), global_batch=8) as loader:
        batch = loader.batch(1)
    part = batch.rows(slice(2, 7))
    here = (batch.image_row_N >= 2) & (batch.image_row_N < 7)
    assert np.array_equal(part.image_NHWC, batch.image_NHWC[here])
    assert np.array_equal(part.image_row_N + 2, batch.image_row_N[here])
    assert np.array_equal(part.image_start_N, batch.image_start_N[here])
    assert np.array_equal(part.token_BS, batch.token_BS[2:7]) and part.step == batch.step
    with pytest.raises(UsageError, match="one after the other"):
        batch.rows(slice(0, 8, 2))


# Damage.


def flipped(store: Store, name: str) -> None:
    """Change a byte of the member, which lies in one of the tars."""
    for path in Path(store.url).glob("shards/*/*.index.arrow"):
        index = read_index(store.storage, str(path.relative_to(store.url)))
        names = index["name"].to_pylist()
        if name in names:
            row = names.index(name)
            at = index["offset"][row].as_py() + index["size"][row].as_py() // 2
            with path.with_name(path.name.replace(".index.arrow", ".tar")).open("r+b") as tar:
                tar.seek(at)
                byte = tar.read(1)[0]
                tar.seek(at)
                tar.write(bytes([byte ^ 1]))
            return
    raise AssertionError(f"no tar has {name}")


def test_a_row_with_a_corrupt_picture_is_replaced_and_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_pairs(store, "some", some_pairs(60), per_shard=32)
    with open_pairs(store, spec()) as loader:
        expected = contents([loader.batch(b) for b in range(12)])
    flipped(store, "b00000000-0000005.webp")
    found = []
    for threads in (0, 3):
        with open_pairs(store, spec(), threads=threads) as loader:
            found.append((contents([loader.batch(b) for b in range(12)]), loader.substitutions))
    assert found[0] == found[1]
    changed, substitutions = found[0]
    replaced = {item.k for item in substitutions}
    assert replaced and {k for k in expected if changed[k] != expected[k]} == replaced
    for item in substitutions:
        assert item.member == "b00000000-0000005.webp" and "checksum differs" in item.reason
        assert item.dataset == "some" and item.substitute != item.sample
    ranks = []
    for rank in range(2):
        with open_pairs(store, spec(), rank=rank, world=2) as loader:
            ranks += [loader.batch(b) for b in range(12)]
    assert contents(ranks) == changed


def test_a_picture_that_cannot_be_decoded_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pairs = some_pairs(40)
    good = pairs[0].encoded[0]
    cut = type(good)(good.data[:-20], good.encoding, good.height, good.width)
    write_pairs(store, "some", [TestPair([cut], {"caption": "cut"}), *pairs[1:]])
    with open_pairs(store, spec(packed=False), global_batch=40) as loader:
        batch = loader.batch(0)
        [item] = loader.substitutions
    assert item.sample == 0 and "Premature end" in item.reason
    assert "b00000000-0000000.jpg" in item.reason
    assert "cut" not in TOKENIZER.decode(batch.target_BS[batch.learn_BS])


def test_where_all_are_corrupt_it_stops(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good = some_pairs(1)[0].encoded[0]
    cut = type(good)(good.data[:-20], good.encoding, good.height, good.width)
    write_pairs(store, "some", [TestPair([cut], {"caption": str(i)}) for i in range(3)])
    with (
        open_pairs(store, spec(packed=False), global_batch=1) as loader,
        pytest.raises(FoundryError, match="corrupt in 16 samples"),
    ):
        loader.batch(0)


def test_a_tar_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_pairs(store, "some", some_pairs(10))
    for tar in tmp_path.glob("shards/*/*.tar"):
        tar.unlink()
    with (
        pytest.raises(FoundryError, match=r"no file|missing|there is no"),
        open_pairs(store, spec()) as loader,
    ):
        loader.batch(0)


# Tars that were adopted where they lie.


def rows_by_text(store: Path) -> dict[bytes, bytes]:
    """The pictures of each pair of a version that was ingested, by what it says."""
    with open_pairs(Store(store), spec(packed=False), DATASET, global_batch=24) as loader:
        batch = loader.batch(0)
    parts = [batch.rows(slice(b, b + 1)) for b in range(len(batch))]
    return {row.target_BS[row.learn_BS].tobytes(): row.image_NHWC.tobytes() for row in parts}


def test_pictures_in_adopted_tars_are_read_where_they_lie(tmp_path: Path) -> None:
    tars = [write_tar(tmp_path / f"source/{i}.tar", some_samples(12, 12 * i)) for i in range(2)]
    ingest(tmp_path / "source", tmp_path / "copied")
    ingest(tmp_path / "source", tmp_path / "adopted", "content.adopt=true")
    expected = rows_by_text(tmp_path / "copied")
    assert len(expected) == 24 and rows_by_text(tmp_path / "adopted") == expected
    data = tars[1].read_bytes()
    at = data.index(some_samples(1, 12)[0].pictures["jpg"]) + 300
    tars[1].write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with open_pairs(Store(tmp_path / "adopted"), spec(packed=False), DATASET, global_batch=24) as loader:
        loader.batch(0)
        [item] = loader.substitutions
    assert (item.shard, item.member) == ("1.tar", "00012.jpg") and str(tars[1]) in item.reason
    tars[1].rename(tmp_path / "elsewhere.tar")
    with (
        pytest.raises(FoundryError, match="adopted tar .*1.tar is missing") as told,
        open_pairs(Store(tmp_path / "adopted"), spec(packed=False), DATASET, global_batch=24) as loader,
    ):
        loader.batch(0)
    assert "foundry-data ingest" in (told.value.hint or "")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_few_descriptors_serve_many_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    write_pairs(store, "some", some_pairs(48), per_shard=4)
    with open_pairs(store, spec(packed=False), global_batch=48) as loader:
        expected = contents([loader.batch(0)])
        assert open_tars(tmp_path) > 3
    monkeypatch.setattr("robot_foundry.loader.pairs.reader.MAX_OPEN_SHARDS", 2)
    monkeypatch.setattr("robot_foundry.loader.pairs.reader.MAX_OPEN_TARS", 3)
    for threads in (0, 2):
        with open_pairs(store, spec(packed=False), global_batch=48, threads=threads) as loader:
            assert contents([loader.batch(0)]) == expected
            assert open_tars(tmp_path) <= 3
    assert open_tars(tmp_path) == 0


def open_tars(folder: Path) -> int:
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.is_relative_to(folder) and link.suffix == ".tar" for link in links)


def test_the_settings_of_another_kind_are_refused(store: Store) -> None:
    from robot_foundry.loader.tokens.rows import RowSpec

    with pytest.raises(UsageError, match="a window of pairs is a PairSpec, not a RowSpec"):
        robot_foundry.load("some", RowSpec(8), seed=0, global_batch=2, store=store)


def test_text_alone_has_no_pictures(tmp_path: Path) -> None:
    store = Store(tmp_path)
    turns = [("user", "1 + 1?"), ("assistant", "2")]
    write_pairs(store, "sums", [TestPair(turns=turns, metadata={"i": i}) for i in range(4)])
    with open_pairs(store, spec(64), "sums", global_batch=1) as loader:
        batch = loader.batch(0)
    assert batch.image_NHWC.shape == (0, *IMAGE, 3) and batch.pairs_B.tolist() == [4]
