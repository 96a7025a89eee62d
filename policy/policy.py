"""A trained policy in a process of its own choosing: it needs its checkpoint folder and nothing else.

Shapes: B observations, H history, h × w pixels, T steps, d dims of a dataset, D and A dims of the unions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_foundry.loader.robot.batch import Batch, allocate, fill_state
from robot_foundry.normalization.representation import decode, references
from robot_foundry.policy.actions import Actions, Underway
from robot_foundry.policy.observe import check_parts, image_arrays, state_array, type_of
from robot_foundry.policy.pace import Pace
from robot_foundry.policy.robot import RobotSide, alike
from robot_foundry.policy.underway import continued
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import generator
from robot_foundry.trainer.checkpoints import checkpoint, tensors
from robot_foundry.trainer.models.flow_guidance import Guide
from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.models.layers.lora import merge
from robot_foundry.trainer.models.vla import FLOW, VLA
from robot_foundry.trainer.recipes.yaml_text import read_yaml
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.inputs import build_inputs
from robot_foundry.trainer.tasks.vla.policy_spaces import DatasetSpaces, PolicySpaces, dataset_steps, geometry
from robot_foundry.trainer.tasks.vla.prompts import Words, words_from_json
from robot_foundry.trainer.tasks.vla.recipe import from_resolved
from robot_foundry.trainer.tasks.vla.scales import Scales, scales_from_json
from robot_foundry.windows.moments import filled_moments, finite_dims
from robot_foundry.windows.timing import Steps

Observation = Mapping[str, Any]
FloatArray = NDArray[np.float64]
EULER_STEPS = 10


@dataclass(frozen=True)
class Policy:
    """Answers observations with action chunks.

    An observation is {"images": {role: uint8 [h, w, 3] or [H, h, w, 3], oldest first}, "state": {dim: value}
    or {dim: [H]} or array [d] or [H, d] over the dataset's state space}. A camera that is absent, and a state
    value that is NaN or not named, is masked; a history that is not given repeats the one observation, as at
    the start of an episode. Moments are a step of the policy apart; `pace` takes them from a loop of another
    rate.
    """

    config: VLATaskConfig
    spaces: PolicySpaces
    scales: Scales
    words: Words
    model: VLA
    lineage: Mapping[str, Any]
    device: torch.device
    robots: Mapping[str, Any] = field(default_factory=dict)  # by dataset, how it was made of its source

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Policy:
        """The policy in a checkpoint folder, or in the latest checkpoint of a run: its averaged weights.

        What low-rank adapters learnt is in them. `folder` may be the URL of either in an object store.
        """
        source = checkpoint.find(Path(folder))
        config_text = (source / "config.yaml").read_text(encoding="utf-8")
        config = from_resolved(read_yaml(config_text, str(source / "config.yaml")))
        spaces = PolicySpaces.from_json(checkpoint.read_json(source, "spaces.json"))
        model = allocated(lambda: VLA(config.model, geometry(config, spaces)), device)
        robots = source / "robots.json"  # older checkpoints have none
        tensors.fill(source, {name: p.detach() for name, p in model.named_parameters()})
        merge(model)
        return cls(
            config,
            spaces,
            scales_from_json(checkpoint.read_json(source, "normalizer.json")),
            words_from_json(checkpoint.read_json(source, "tokenizer.json"), str(source / "tokenizer.json")),
            model.eval().requires_grad_(False),
            checkpoint.read_json(source, "lineage.json"),
            torch.device(device),
            checkpoint.read_json(source, robots.name) if robots.exists() else {},
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """The cameras that the policy looks at."""
        return self.config.data.window.cameras

    def steps(self, number: int) -> Steps:
        """How many steps it sees and predicts as that dataset's robot, and how long they are."""
        return dataset_steps(self.config, self.spaces)[number]

    @property
    def history(self) -> int:
        """The most moments that it sees of a robot."""
        return geometry(self.config, self.spaces).history

    def pace(self, number: int, loop_hz: float) -> Pace:
        """How its steps as that dataset's robot lie in a loop of that rate.

        Where the dataset's rate is unknown, it is taken to be the loop's.
        """
        steps = self.steps(number)
        dt = float(steps.dt(self.spaces.datasets[number].fps or loop_hz))
        return Pace(dt * loop_hz, steps.history)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets it was trained on, each with dims of its own."""
        return tuple(dataset.name for dataset in self.spaces.datasets)

    def act(
        self,
        observation: Observation,
        instruction: str,
        *,
        seed: int,
        dataset: str | None = None,
        underway: Underway | None = None,
    ) -> Actions:
        """The chunk for one observation; equal arguments give the equal chunk.

        `dataset` says whose dims the state has and the actions shall have. It may be left out where all that
        the policy knows are of one robot: equal dims, embodiment, rate, cameras and scales.

        A chunk that is `underway` is continued (real-time chunking, see `trainer.models.flow_guidance`): the
        steps that pass before the new chunk is there stay as they are, and the others agree with the old ones
        the less, the later they are.
        """
        return self.act_batch(
            [observation], [instruction], seeds=[seed], dataset=dataset, underway=[underway]
        )[0]

    def act_batch(
        self,
        observations: Sequence[Observation],
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        dataset: str | Sequence[str] | None = None,
        underway: Sequence[Underway | None] = (),
    ) -> list[Actions]:
        """Chunks for many observations at once: those of `act` with each seed, up to rounding.

        `dataset` is that of all, or one for each: robots of unlike dims and rates may share a batch.
        """
        names = [dataset] * len(observations) if dataset is None or isinstance(dataset, str) else dataset
        if not len(observations) == len(instructions) == len(seeds) == len(names):
            raise FoundryError(
                f"{len(observations)} observations, {len(instructions)} instructions, {len(seeds)} seeds, "
                f"{len(names)} datasets"
            )
        if underway and len(underway) != len(observations):
            raise FoundryError(f"{len(observations)} observations, {len(underway)} chunks under way")
        for seen, instruction in zip(observations, instructions, strict=True):
            check_parts(seen)
            if not isinstance(instruction, str):
                raise FoundryError(f"the instruction is {type_of(instruction)}, not a text ('' is none)")
        numbers = [self.number(name) for name in names]
        batch = self.batch(observations, instructions, numbers)
        values = self.decode(batch, self.predict(batch, seeds, underway))
        return [self._actions(number, values_TA) for number, values_TA in zip(numbers, values, strict=True)]

    def _actions(self, number: int, values_TA: FloatArray) -> Actions:
        dataset, steps = self.spaces.datasets[number], self.steps(number)
        dt = float(steps.dt(dataset.fps or np.nan)) or None
        return Actions(values_TA[: steps.horizon], dataset.action, dt)

    def number(self, dataset: str | None) -> int:
        """The index of a dataset, or of the first where none is named and all are of one robot."""
        if dataset is None and self.spaces.alike and len(self.scales.action) == 1:
            return 0
        return self.spaces.dataset(dataset)

    def observe(self, raw: Mapping[str, Any], *, dataset: str | None = None) -> dict[str, Any]:
        """The observation for `act` of what the robot itself reports, made as the dataset was.

        `raw` is {"images": {camera: uint8 [h, w, 3] or [H, h, w, 3]}, "state": {key: array [, …] or [H, …]}}:
        pictures by the source's names of cameras, as it turns, orders and sizes them, and the arrays that the
        spec names for the state. A camera that is not given, and an array of NaN, is masked by `act`.
        """
        return self._robot(dataset).observe(raw)

    def command(
        self,
        actions: Actions | NDArray[np.floating],
        state: Any,
        *,
        dataset: str | None = None,
        stream: str | None = None,
        rest: float | None = None,
    ) -> FloatArray | dict[str, FloatArray]:
        """What to send the robot for absolute targets: the source's own action vectors, float64 [T, …].

        `actions` are those of `act`, or targets [T, A] of any steps of them, or one [A], which gives one
        vector. `state` is the canonical one at the moment of the first step, as in an observation, and the
        last where it has a history. Where the source's commands are displacements, step k > 0 starts from the
        target of step k - 1 as the estimate of the state: so send one step and ask again with the state that
        then is measured, or send several open loop.

        `stream` says in the form of which of the spec's streams, by default that which the policy learned;
        `rest` is the number for columns of the source that it does not name. Where a stream is made of
        several arrays, they come by key. FoundryError says in a sentence what cannot be told the robot.
        """
        return self._robot(dataset).command(actions, state, stream=stream, rest=rest)

    def _robot(self, dataset: str | None) -> RobotSide:
        """The robot meant. FoundryError where none is named and they were not all made in one way."""
        chosen = self.spaces.datasets[self.number(dataset)]
        for other in self.spaces.datasets:
            if dataset is None and not alike(self.robots.get(chosen.name), self.robots.get(other.name)):
                raise FoundryError(
                    f"'{chosen.name}' and '{other.name}' were made of unlike sources: say which one"
                )
        stream = self.config.data.window.stream
        return RobotSide(
            chosen.name, self.robots.get(chosen.name), chosen.state, chosen.action, stream, self.roles
        )

    def batch(
        self, observations: Sequence[Observation], instructions: Sequence[str], number: int | Sequence[int]
    ) -> Batch:
        """Observations of one dataset, or each of its own, as a batch of the loader without targets."""
        window, sizes = self.config.data.window, geometry(self.config, self.spaces)
        assert window.image is not None
        number_B = np.broadcast_to(np.asarray(number, np.int32), len(observations))
        batch = allocate(
            0,
            np.zeros(len(observations), np.int64),
            number_B,
            history=sizes.history,
            horizon=sizes.horizon,
            state_dims=len(self.spaces.state),
            action_dims=len(self.spaces.action),
            images=dict.fromkeys(window.cameras, window.image),
        )
        for one in np.unique(number_B):
            self._fill(batch, np.flatnonzero(number_B == one), int(one), observations)
        return replace(batch, instruction=tuple(instructions))

    def _fill(
        self, batch: Batch, row_n: NDArray[np.intp], number: int, observations: Sequence[Observation]
    ) -> None:
        """Write the rows of one dataset, each from its observation."""
        dataset, steps, roles = self.spaces.datasets[number], self.steps(number), self.roles
        seen = [observations[row] for row in row_n]
        moment_H = filled_moments(batch.state_BHD.shape[1], steps.history)
        states = [state_array(item.get("state"), dataset.state, steps.history) for item in seen]
        state_nHd = np.stack(states)[:, moment_H]
        finite_nd = finite_dims(state_nHd)
        self._check_references(dataset, finite_nd)
        at_d = dataset.state.indices_in(self.spaces.state, dataset.embodiment)
        fill_state(batch, row_n, at_d, state_nHd, finite_nd)
        at_a = dataset.action.indices_in(self.spaces.action, dataset.embodiment)
        batch.action_dim_mask_BA[np.ix_(row_n, at_a)] = True
        batch.step_mask_BT[row_n, : steps.horizon] = True
        batch.embodiment_B[row_n] = self.spaces.embodiments.index(dataset.embodiment)
        pictures, size = [item.get("images") or {} for item in seen], self.config.data.window.image
        assert size is not None
        images, masks = image_arrays(pictures, roles, steps.history, size)
        for role in roles:
            batch.images[role][row_n] = images[role][:, moment_H]
            batch.image_mask[role][row_n] = masks[role][:, moment_H]

    def predict(
        self, batch: Batch, seeds: Sequence[int], underway: Sequence[Underway | None] = ()
    ) -> FloatArray:
        """Denormalised chunks [B, T, A] over the union, still in the representation of the window."""
        is_shown = self.config.model.state_dropout < 1
        inputs = build_inputs(
            batch, scales=self.scales, words=self.words, roles=self.roles, targets=False,
            state_seen_B=np.full(len(batch.k_B), is_shown),
        )  # fmt: skip
        shape = batch.action_BTA.shape[1:]
        noise = [generator("policy", int(seed)).standard_normal(shape, dtype=np.float32) for seed in seeds]
        horizon_D = np.array([steps.horizon for steps in dataset_steps(self.config, self.spaces)])
        in_horizon_BT = np.arange(shape[0]) < horizon_D[batch.dataset_B][:, None]
        mask_BTA = batch.action_dim_mask_BA[:, None] & in_horizon_BT[..., None]
        guide = self._guide(batch, mask_BTA, underway)
        with torch.inference_mode() if guide is None else torch.no_grad():
            sampled = self.model.sample(
                inputs.to(self.device),
                torch.from_numpy(np.stack(noise)).to(self.device),
                torch.from_numpy(mask_BTA).to(self.device),
                EULER_STEPS,
                guide,
            )
        action_BTA = sampled.double().cpu().numpy()
        return self.scales.denormalize_action(action_BTA, mask_BTA, batch.dataset_B)

    def _guide(
        self, batch: Batch, mask_BTA: NDArray[np.bool_], underway: Sequence[Underway | None]
    ) -> Guide | None:
        """What the chunks are drawn to; None where nothing of an old one is left."""
        if not any(underway):
            return None
        if self.config.model.objective != FLOW:
            raise FoundryError(
                f"a chunk under way cannot be continued: model.objective is {self.config.model.objective}",
                hint="real-time chunking guides the steps of a flow, and a regression has none",
            )
        target_BTA, weight_BTA = continued(
            batch,
            mask_BTA,
            underway,
            spaces=self.spaces,
            scales=self.scales,
            representation=self.config.data.window.representation,
        )
        if not weight_BTA.any():
            return None
        return Guide(*(torch.from_numpy(array).to(self.device) for array in (target_BTA, weight_BTA)))

    def decode(self, batch: Batch, action_BTA: FloatArray) -> list[FloatArray]:
        """Absolute targets [T, d] of each row, in the dims of its dataset, from chunks over the union."""
        return [
            self._decode_row(self.spaces.datasets[number], batch.state_BHD[row, -1], action_BTA[row])
            for row, number in enumerate(batch.dataset_B)
        ]

    def _decode_row(
        self, dataset: DatasetSpaces, state_D: NDArray[Any], action_TA: NDArray[Any]
    ) -> FloatArray:
        state_d = dataset.state.gather(
            state_D.astype(np.float64), self.spaces.state, embodiment=dataset.embodiment
        )
        action_Td = dataset.action.gather(
            action_TA.astype(np.float64), self.spaces.action, embodiment=dataset.embodiment
        )
        return decode(
            state_d, action_Td, dataset.state, dataset.action, self.config.data.window.representation
        )

    def _check_references(self, dataset: DatasetSpaces, finite_Bd: NDArray[np.bool_]) -> None:
        """What targets are relative to must be known."""
        representation = self.config.data.window.representation
        for name in references(dataset.state, dataset.action, representation):
            if not finite_Bd[:, dataset.state.index(name)].all():
                raise FoundryError(f"{name} must be known: the actions are {representation} to it")
