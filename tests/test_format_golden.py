"""The format of docs/format.md, frozen: a change of any of these values is a change of format.

Old shards must stay readable and re-made shards byte-identical: a value may be added here, never edited.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zlib

import numpy as np
import pyarrow as pa
import pytest

from robot_foundry.catalog.manifest import Manifest, ShardEntry
from robot_foundry.catalog.robot.schema import Camera, Schema
from robot_foundry.catalog.robot.tables import ANNOTATIONS_SCHEMA, EPISODES_SCHEMA, frames_schema
from robot_foundry.catalog.tables import table_digest
from robot_foundry.normalization.space import dims_for
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.keyed import key
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.images import codec_versions, encode_jpeg
from robot_foundry.shards.index import index_of_tar, read_index
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot import names as keys
from robot_foundry.shards.robot.shard import RobotShard
from robot_foundry.shards.tar import TarSummary, TarWriter, ustar_header

EPISODE = "demo_0-6c10e1d4d2c4"
EPISODE_JSON = {"format": 1, "fps": 20.0, "id": "demo_0", "num_frames": 2, "start_ns": None}
ARRAYS = {
    "actions": np.array([[0.5, -1.0], [0.25, 1.0]]),
    "obs/gripper": np.array([1, 2], dtype=">i4"),
    "scalar": np.array("text"),
    "timestamp": np.array([0.0, 0.05]),
}

# What `shard()` and `write_index` gave when the format was fixed: base 85 of zlib.
FROZEN_TAR = (
    "c-rlk&x_MQ6vvaay5J&S_78}2*eIlN60)fjVe#T+Q3|q%rxKINnx*-{OuDQtyJs(g;7JeS!HfPAp1t`ec=hIj7jM2XhSn){7h5X2"
    "?^7Q0BYm0oX5P0$W0n;I+6f|;GB@^PFY-I|2TsC^ymEHS9c@nJ+XCO$>i1H$1-cV`n0NgRcSAF&wgg6^3OOvlh$JVI`&ZD7R{Pv}"
    "4LO^{v-I!&W&H=J|K-Vl1%-h6Z}ji5G8IM4oLy1mi&*0%{kzmx_3sB=)c-O#AW6Zqup&LzCP^ts&!Y~tNg9(Lsf&ZyBp+pigohcE"
    "&ut>NtQzDn$VbEBA*$&A(!VH1JYr5>K3>ckC+Oep22|C*NAdn&3jM8Cd+lfcvbMgrfAcl;q^*L5QI!_CfKqt${Lc36{(W8B(+;ed"
    "iHKW0)4Gvdw`|jbpOA`&`Jmu2lk>O2p<pmC9)=}@@fFWDy{oo)X#O!5>JUF|*6o+~b^EayZ~mId>bG~DC(x6239NV^uI=!&EE%7j"
    "OzNL9nfX$IWONA0nA-iP_wII{K~I{@S4813{7t;ur;B&qXd&JTqG4eBVAWLIuU5VuH*sH--$>!2sKTsVK;6u})lH$ld?9%Yb)p+<"
    "t=T2t@J61|qySV$wZz7bAEpaVbykmh?0lq89=z(OZuQtNFqDn&Z`FV6+wl1e?XiKk9fBYTf*=TjAP9mW2!bHU+2K1K<v{`"
)
FROZEN_INDEX = (
    "c-rk%&2G~`5Z*LS8c<aE5TU529E!xHmjB{7oTyZZ9x8!)p&+ElUav_Di6h%ZNiV%2apM8t1VX$7Z@{VI&_iDVi6@}U?2aKZ3F5%9"
    "6OCtQ=iAxc*>5*H2L}%xS&UtQ?5#1TGnAWbgVkA$HJ}Aj(SG$e;j2-9yMk?{UqK^KpZs0O*QRy@)D?~hoXEp0m?ICu7h=Fu?${jr"
    "a=^C;UjwyF+cm-7kl1t(&T^4K`z_!e67C+($9>`UV~+=Y?uOkcG+oc>J5B(<(CP)DX_|5Dn4uk*J-_RFU9abHVTZhDbptzAyHayx"
    "!@%x(xZbARBd+@n&4qhOlQ78#adI+_(wQ+5qfn%o@zTN^b<j9TM?tREe}QYInz)o>AJz_LO{aVsQ-WiQN_+%N2mI*@EZXeoRABoY"
    "Fj#{RbJ$KPZxY9u$d%WCNS*3-p~lpf<sSzlng0u5bk>q}SeK`!6A%6zR|S18X5eeG5BW3%ezYjwWVeV>O__;RH8~zJjJVaNy5o6V"
    "GR4Irf5DqoQq0pP`-JSYgqxP|Z^*tX##a{ch2J6HFU9>*{IC=+e0{F3R@xW)4?fB!aqa%x{v$C;2IjWMEmK&L8`<35Hl?hLSW6;H"
    "x_-~Q1-gf4IakNk^BQrQjC137@@(}A{)#cg<S0ubVH{`4cv(D4PEsz6@#GY5#oT2mE<4JGGV5&7?vnjpRd)Z|<M)@*-OsOYzx#B4"
    "_T%Z5x;OGXo4}&FWVBA))a3iOMdyP@e@OFBhzG+3eq6t&*YD}Sy{8l4(T@DD{t3>WE0h"
)


def shard() -> tuple[bytes, TarSummary]:
    """Images are stand-ins, so that these bytes depend on no codec."""
    content = {keys.image_name(EPISODE, frame, "front"): bytes(range(frame, frame + 7)) for frame in range(2)}
    content[keys.episode_json_name(EPISODE)] = canonical_json(EPISODE_JSON)
    content[keys.source_name(EPISODE)] = write_npz(ARRAYS)
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for name in sorted(content):
        writer.add(name, content[name])
    summary = writer.close()
    return sink.getvalue(), summary


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_names() -> None:
    assert keys.episode_key("lift/ph.hdf5", "demo_0") == "demo_0-778628f26a71"


def test_header() -> None:
    assert (
        sha256(ustar_header("a-000000.cam.jpg", 1234))
        == "c4b7a866db463e250b71a57b473794d3752f1e46ced2fa7463e4f404f053048b"
    )


def test_arrays() -> None:
    assert sha256(write_npz(ARRAYS)) == "537d81dc2631cfe2649506e9e77cd8d1caac85a02b7c4aeca3488e963ed9c423"


def test_tar() -> None:
    _, summary = shard()
    assert (summary.num_bytes, summary.sha256) == (
        10240,
        "8c8e49f6ca9c4b5db0463933a3a3b17ab000ff30b2a0785865676ce2bc715a2f",
    )


def test_members_table() -> None:
    _, summary = shard()
    assert table_digest(summary.members) == "b02d3e42e2377b8ff62ee366872df218"
    assert summary.members.schema.metadata == {
        b"format": b"robot_foundry.members.v1",
        b"tar_sha256": summary.sha256.encode(),
        b"tar_bytes": b"10240",
        b"table_crc32c": b"4e3ea3d6",
    }


def test_jpeg() -> None:
    known = {
        ("1.9.0", "3.1.2"): (
            "c431d985b13cc13e9689af2b38da78693ba0d8210fb5d0ba7836b3605df6ddb2",
            "d83edefb6c5d62fe208e97ffce128359170cad5cecd5acfcc0dde23e9d797b92",
        )
    }
    versions = (codec_versions()["simplejpeg"], codec_versions().get("libjpeg_turbo"))
    if versions not in known:
        pytest.skip(f"JPEG bytes are recorded for other codec versions than {versions}")
    small_HWC = (np.arange(84 * 84 * 3) * 7 % 251).astype(np.uint8).reshape(84, 84, 3)
    large_HWC = (np.arange(128 * 160 * 3) // 5 % 256).astype(np.uint8).reshape(128, 160, 3)
    assert (sha256(encode_jpeg(small_HWC)), sha256(encode_jpeg(large_HWC))) == known[versions]


def test_tables() -> None:
    frames = pa.table(
        {
            "episode": [0, 0],
            "frame": [0, 1],
            "timestamp": [0.0, 0.05],
            "flags": [0, 4],
            "state": [[1.0, -0.0, 2.0], [float("nan"), 0.0, 2.5]],
            "action.command": [[0.5], [0.25]],
        },
        schema=frames_schema(3, {"command": 1}),
    )
    assert table_digest(frames) == "624d2d49deebc25df3b73534f05ad05a"
    told = (key("split", "f" * 64, "demo_0"), '{"lang":"lift"}')
    row = (0, 0, EPISODE, "demo_0", 0, 2, 20.0, 0.1, None, "lift/ph.hdf5", *told)
    episodes = pa.Table.from_pylist([dict(zip(EPISODES_SCHEMA.names, row, strict=True))], EPISODES_SCHEMA)
    assert table_digest(episodes) == "269718cf01090cb43412c61d5dc02dab"
    row = (EPISODE, 0, 2, "instruction", "lift the cube", "task")
    notes = pa.Table.from_pylist([dict(zip(ANNOTATIONS_SCHEMA.names, row, strict=True))], ANNOTATIONS_SCHEMA)
    assert table_digest(notes) == "c76b6939d78f9ee32cee87420321afb2"


def test_version_id() -> None:
    schema = Schema(
        state=dims_for("right.ee_position"),
        streams={"command": dims_for("right.gripper_opening")},
        cameras=(Camera("front", "primary", 84, 84, "jpeg"),),
        embodiment="panda",
        fps=20.0,
    )
    manifest = Manifest(
        dataset="lift",
        build_id="0" * 32,
        schema=schema,
        kind="robot",
        shards=(ShardEntry("f" * 32, "a" * 64, 10240, 1, 2),),
        tables={
            "episodes": "1" * 32,
            "annotations": "2" * 32,
            "leaves": "3" * 32,
            f"frames/{'f' * 32}": "4" * 32,
        },
    )
    assert manifest.version_id == "49e5d7701b157a34ba149110e01aa3cb"


def test_a_shard_of_this_format_is_read() -> None:
    storage = open_storage("memory://test-format-golden")
    tar = zlib.decompress(base64.b85decode(FROZEN_TAR))
    storage.write("k.tar", tar)
    storage.write("k.index.arrow", zlib.decompress(base64.b85decode(FROZEN_INDEX)))
    index = read_index(storage, "k.index.arrow")
    assert index.equals(index_of_tar(io.BytesIO(tar)), check_metadata=True)
    found = RobotShard(ShardReader(storage, "k.tar", index))
    assert (found.episodes, found.cameras) == ([EPISODE], ["front"])
    assert found.episode_json(EPISODE) == EPISODE_JSON
    source = found.source(EPISODE)
    assert list(source) == sorted(ARRAYS)
    assert all(np.array_equal(source[name], array) for name, array in ARRAYS.items())
    images = [found.reader.read(row) for row in found.image_rows("front")]
    assert images == [bytes(range(7)), bytes(range(1, 8))]
