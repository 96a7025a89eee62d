"""Robot windows for the loader: what their batches are named by, and who reads them."""

from __future__ import annotations

from typing import Any, TypeVar

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.loader.load import Loader
from robot_foundry.loader.robot.source import OpenShards, WindowSource
from robot_foundry.loader.robot.window_reader import WindowReader
from robot_foundry.loader.share import Share
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.windows.cameras import image_sizes
from robot_foundry.windows.chunk_statistics import representation_statistics, represented_union
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

    def __init__(self, opened: OpenMixture, window: WindowSpec, **options: Any) -> None:
        self._opened = opened
        super().__init__(opened.store, opened.mixture, window, **options)

    def open_reader(self, share: Share) -> WindowReader:
        window, opened = self.window, self.opened
        unions = unions_of(opened)
        unions.check_stream(window.stream)
        shards = OpenShards()
        sources = [WindowSource(part, i, window, shards) for i, part in enumerate(opened.parts)]
        action = represented_union(unions.schemas, window.stream, window.representation)
        self.spaces = (unions.state, action)
        self.dataset_spaces = {s.component.name: (s.state_space, s.action_space) for s in sources}
        self.embodiments = tuple(sorted({schema.embodiment for schema in unions.schemas.values()}))
        return WindowReader(
            sources,
            shards,
            window,
            *self.spaces,
            image_sizes(unions.schemas.values(), window),
            [self.embodiments.index(source.schema.embodiment) for source in sources],
            share,
            seed=self.seed,
            threads=self._threads,
        )

    @property
    def opened(self) -> OpenMixture:
        """The mixture, open in this process: another one opens its own files."""
        kept: OpenMixture | None = vars(self).get("_opened")
        if kept is None or kept.store is not self.store:
            kept = self._opened = OpenMixture.of(self.store, self.mixture)
        return kept

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

    def open_loader(self, opened: OpenMixture, window: WindowSpec | None, **options: Any) -> RobotLoader[Any]:
        return RobotLoader(opened, window or WindowSpec(), **options)


KIND = RobotKind()
