"""Where the files of a LeRobot dataset lie, in the layouts v3.0 and v2.1."""

from __future__ import annotations

from dataclasses import dataclass

from robot_foundry.export.lerobot.options import DATA_MB, V3, VIDEO_MB

CHUNK = 1000  # files in a folder, as LeRobot has it
INFO, STATS, TASKS, SUBTASKS = (
    "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/subtasks.parquet",
)  # fmt: skip
EPISODES_LINES, STATS_LINES, TASKS_LINES, SUBTASKS_LINES = (
    "meta/episodes.jsonl", "meta/episodes_stats.jsonl", "meta/tasks.jsonl", "meta/subtasks.jsonl",
)  # fmt: skip
DATA_BYTES, VIDEO_BYTES = DATA_MB * 2**20, VIDEO_MB * 2**20
# Rows of the table of episodes in a file.
EPISODES_IN_FILE = 2000


@dataclass(frozen=True)
class Layout:
    """v3.0 puts many episodes in a file, v2.1 one in each."""

    version: str

    @property
    def is_v3(self) -> bool:
        return self.version == V3

    @property
    def data_template(self) -> str:
        """`data_path` of info.json."""
        if self.is_v3:
            return "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        return "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"

    @property
    def video_template(self) -> str:
        """`video_path` of info.json."""
        if self.is_v3:
            return "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        return "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"

    def data(self, number: int) -> str:
        """The file of data with this number, of v2.1 that of the episode."""
        return self.data_template.format(**_places(number))

    def video(self, key: str, number: int) -> str:
        """The video of a camera with this number, of v2.1 that of the episode."""
        return self.video_template.format(video_key=key, **_places(number))

    def episodes(self, number: int) -> str:
        """The file of the table of episodes with this number, of v3.0."""
        chunk, file = divmod(number, CHUNK)
        return f"meta/episodes/chunk-{chunk:03d}/file-{file:03d}.parquet"


def _places(number: int) -> dict[str, int]:
    chunk, file = divmod(number, CHUNK)
    return {"chunk_index": chunk, "file_index": file, "episode_chunk": chunk, "episode_index": number}
