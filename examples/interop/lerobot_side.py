"""What LeRobot's own code does, for its own environment: `write FOLDER` records a dataset, `read` reads one.

    python lerobot_side.py write FOLDER --episodes 3
    python lerobot_side.py read FOLDER ITEMS.npz

`write` records moving pictures, three numbers of state and two of action by `LeRobotDataset.create`, with
videos as LeRobot encodes them. `read` puts every item of a dataset, as `LeRobotDataset[i]` gives it, into
arrays by key: images become uint8 [N, H, W, 3].
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

FPS, HEIGHT, WIDTH, FRAMES = 10, 64, 96, 24
TASKS = ("push the block", "pick up the block")
CAMERA = "observation.images.front"
FEATURES = {
    CAMERA: {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]},
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "grip"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
}


def dataset_class() -> Any:
    """LeRobotDataset. A torchvision of another torch registers operators which that lacks; none is needed."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    register = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function
    import torchvision  # noqa: F401

    torch.library.register_fake = register
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset


def write(folder: Path, episodes: int) -> None:
    dataset = dataset_class().create("local/moving", FPS, FEATURES, root=folder, robot_type="plotter")
    random = np.random.default_rng(0)
    y_HW, x_HW = np.mgrid[:HEIGHT, :WIDTH]
    for episode in range(episodes):
        for frame in range(FRAMES + episode):
            red_HW = 127 + 120 * np.sin((x_HW + 3 * frame) / 15)
            green_HW = 127 + 120 * np.cos((y_HW + 2 * frame) / 11)
            blue_HW = np.full_like(red_HW, 60 + 50 * episode)
            picture_HWC = np.stack([red_HW, green_HW, blue_HW], axis=-1).astype(np.uint8)
            dataset.add_frame(
                {
                    CAMERA: picture_HWC,
                    "observation.state": random.normal(size=3).astype(np.float32),
                    "action": random.normal(size=2).astype(np.float32),
                    "task": TASKS[episode % len(TASKS)],
                }
            )
        dataset.save_episode()
    dataset.finalize()


def read(folder: Path, items: Path) -> None:
    dataset = dataset_class()("local/read", root=folder, video_backend="pyav")
    columns: dict[str, list[Any]] = {}
    for i in range(len(dataset)):
        for key, value in dataset[i].items():
            array = value if isinstance(value, str) else value.numpy()
            if key in dataset.meta.camera_keys:
                array = np.rint(array.transpose(1, 2, 0) * 255).astype(np.uint8)
            columns.setdefault(key, []).append(array)
    with items.open("wb") as file:
        np.savez(file, **{key: np.array(values) for key, values in columns.items()})
    print(f"LeRobot read {len(dataset)} items of {dataset.num_episodes} episodes, with {', '.join(columns)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--episodes", type=int, default=3)
    reading = commands.add_parser("read")
    reading.add_argument("folder", type=Path)
    reading.add_argument("items", type=Path)
    asked = parser.parse_args()
    if asked.command == "write":
        write(asked.folder, asked.episodes)
    else:
        read(asked.folder, asked.items)


if __name__ == "__main__":
    main()
