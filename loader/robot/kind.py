"""Robot windows for the loader: what their batches are named by, and who reads them."""

from __future__ import annotations

from typing import Any, TypeVar

from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.version import Version
from robot_foundry.loader.kind import LoaderKind
from robot_foundry.loader.load import Loader
from robot_foundry.loader.robot.dataset import Dataset
from robot_foundry.loader.robot.drafts import Drafts
from robot_foundry.loader.robot.window_reader import WindowReader
from robot_foundry.loader.share import Share
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.windows.cameras import image_sizes
from robot_foundry.windows.chunk_statistics import representation_statistics
from robot_foundry.windows.window import WindowSpec

T = TypeVar("T")


class RobotLoader(Loader[T]):
    """A Loader of robot batches (`robot.batch.Batch`).

    spaces          (state, action): the unions that the dims of a batch are named by
    dataset_spaces  the same of each component, by its name
    embodiments     what `Batch.embodiment_B` numbers
    """

    window: WindowSpec
    spaces: tuple[ActionSpace, ActionSpace]
    dataset_spaces: dict[str, tuple[ActionSpace, ActionSpace]]
    embodiments: tuple[str, ...]

    def open_reader(self, share: Share) -> WindowReader:
        drafts = Drafts(self.opened, self.window, seed=self.seed)
        self.spaces, self.embodiments = drafts.spaces, drafts.embodiments
        self.dataset_spaces = {s.component.name: (s.state_space, s.action_space) for s in drafts.sources}
        sizes = image_sizes(drafts.unions.schemas.values(), self.window)
        return WindowReader(drafts, sizes, share, seed=self.seed, threads=self._threads)

    def normalizer_statistics(self) -> tuple[Statistics, Statistics]:
        """(state, action) statistics over `spaces` of the training split, as batches hold them; cached."""
        window = self.window
        return representation_statistics(
            self.opened,
            stream=window.stream,
            representation=window.representation,
            horizon=window.horizon,
            stride=window.stride,
            control_hz=window.control_hz,
            masked=window.masked,
        )


class RobotKind:
    """See `loader.kind.Kind`."""

    settings: type[WindowSpec] = WindowSpec

    def counts(self, opened: OpenMixture, window: WindowSpec) -> list[int]:
        return opened.mixture.counts

    def open_loader(self, opened: OpenMixture, window: WindowSpec, **options: Any) -> RobotLoader[Any]:
        return RobotLoader(opened, window, **options)

    def open_dataset(self, versions: OpenVersions, version: Version, split: str) -> Dataset:
        return Dataset(versions, version, split)


KIND: LoaderKind = RobotKind()
