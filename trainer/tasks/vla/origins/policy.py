"""Starting a run from the weights of another: parameters by name, and input and output dims by theirs.

A run that is trained on other robots works in another union of dims, so the columns of a few parameters mean
other things. They are moved by dim name: dims that the old run knows take its columns, new ones keep their
fresh weights. Where each embodiment has projections of its own, these go by its name in the same way.
Normalisers are fitted anew or kept (docs/training.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.cotrained import OUTPUT
from robot_foundry.trainer.models.layers.lora import LoRAConfig, adapters_of, is_adapter, merged
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.tasks.described import read_values
from robot_foundry.trainer.tasks.origin import RunOrigin, check_fits, chosen, misfits, unknown, wanted
from robot_foundry.trainer.tasks.run_identity import completed
from robot_foundry.trainer.tasks.vla.config import DataConfig, VLATaskConfig
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces
from robot_foundry.trainer.tasks.vla.recipe import from_resolved
from robot_foundry.trainer.tasks.vla.scales import Scales, scales_from_json
from robot_foundry.trainer.tasks.vlm.trained import is_vision_language

# Parameters with an axis of dims: of which union, which axis, how often the dims repeat on it (value, mask).
DIM_AXES: Mapping[str, tuple[str, int, int]] = {
    "head.state_in.weight": ("state", -1, 2),
    "head.action_in.weight": ("action", -1, 2),
    "head.action_out.weight": ("action", -2, 1),
}
# Parameters that each embodiment may have for itself, on an axis in front; and their axes where all share.
SHARED_AXES = {**dict.fromkeys(DIM_AXES, 2), "head.state_in.bias": 1, "head.action_in.bias": 1}
EMBODIMENTS = "embodiments"
UNIONS = ("state", "action")
SPACES = "spaces.json"  # a file that checkpoints of policies have alone
Columns = Sequence[int | None]  # for each dim of a new union its place in the old one


@dataclass(frozen=True)
class Origin(RunOrigin):
    """A finished checkpoint of a policy that another run starts from."""

    spaces: PolicySpaces
    scales: Scales

    @classmethod
    def find(cls, where: str) -> Origin:
        """The checkpoint meant by `where`: a run, a checkpoint folder or a pointer file.

        FoundryError where it is none, is not whole, or is of something else than a policy.
        """
        folder = checkpoint.find(Path(where))
        if not (folder / SPACES).is_file():
            hint = "give a run of foundry-train vla"
            if is_vision_language(folder):
                hint = f"init.vlm={where} starts from a vision-language model"
            raise FoundryError(f"init.weights: {folder} is no checkpoint of a policy", hint=hint)
        return cls(
            folder,
            checkpoint.read_json(folder, checkpoint.STATE),
            PolicySpaces.from_json(checkpoint.read_json(folder, SPACES)),
            scales_from_json(checkpoint.read_json(folder, "normalizer.json")),
        )

    def check(self, model: nn.Module, spaces: PolicySpaces, only: Sequence[str] = ()) -> None:
        """FoundryError that lists all that keeps `load_weights` from filling `model` (meta tensors will do).

        That is every parameter that one side lacks, every shape that differs but for the number of dims, and
        every dim, and all adapters, that mean something else there.
        """
        parameters, stored = self._wanted(model, only), self.stored()
        free = {name: list(_named_axes(name, len(tensor.shape))) for name, tensor in parameters.items()}
        taken = {
            name: shape
            for name, shape in stored.items()
            # A policy does without the output of text, and without adapters, which go into its weights.
            if chosen(name, only) and (name in parameters or not (name == OUTPUT or is_adapter(name)))
        }
        problems = [*unknown(model, only), *misfits(parameters, taken, free)]
        if DIM_AXES.keys() & parameters.keys():
            problems += [line for union in UNIONS for line in self._changed(union, spaces)]
        problems += self._adapters_changed(model, parameters)
        hint = "set model and data.window as there, or say in init.only which parameters to take"
        check_fits(problems, str(self.folder), hint)

    def load_weights(
        self, model: nn.Module, spaces: PolicySpaces, only: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Fill the parameters of `model` that `only` names (all, if it is empty) with the averaged weights.

        Adapters that only `model` has begin anew; what adapters learnt that it has not goes into its weights.
        Returns notes about dims that start fresh. Raises what `check` raises, before anything is filled.
        """
        self.check(model, spaces, only)
        stored = self.stored()
        parameters = self._wanted(model, only)
        columns = {union: self._columns(union, spaces) for union in UNIONS}
        places = {**columns, EMBODIMENTS: _places(self.spaces.embodiments, spaces.embodiments)}
        axes_of = {name: _named_axes(name, tensor.ndim) for name, tensor in parameters.items()}
        moved = {name: torch.empty(stored[name]) for name, axes in axes_of.items() if axes}
        self.fill({name: moved.get(name, tensor) for name, tensor in parameters.items()})
        for name, old in moved.items():
            _move(old, parameters[name], axes_of[name], places)
        told = {kind for axes in axes_of.values() for kind, _ in axes.values()}
        return tuple(self._fresh({kind: places[kind] for kind in places if kind in told}, spaces))

    def fill(self, parameters: Mapping[str, Tensor]) -> None:
        """Fill parameters in place; what adapters learnt that are not among them goes into their weights."""
        super().fill(parameters)
        self._merge_adapters(parameters)

    def _wanted(self, model: nn.Module, only: Sequence[str]) -> dict[str, Tensor]:
        """The parameters to fill: of adapters those alone that it has as well."""
        stored, asked = self.stored(), wanted(model, only)
        return {name: tensor for name, tensor in asked.items() if name in stored or not is_adapter(name)}

    def _adapters_changed(self, model: nn.Module, parameters: Collection[str]) -> Iterator[str]:
        """What the same numbers of adapters would add, where it is not the same."""
        if not any(map(is_adapter, parameters)):
            return
        assert isinstance(model, VLA)
        there, here = self._lora.scale, model.config.lora.scale
        if there != here:
            yield f"adapters of model.lora count alpha / rank = {there:g} there and {here:g} here"

    @property
    def _lora(self) -> LoRAConfig:
        return from_resolved(read_values(self.folder)).model.lora

    def _merge_adapters(self, parameters: Mapping[str, Tensor]) -> None:
        """Into filled weights, what adapters of theirs learnt that are not among the parameters."""
        stored = self.stored()
        for weight, down, up in adapters_of(list(stored)):
            if weight in parameters and down not in parameters:
                factors = {name: torch.empty(stored[name]) for name in (down, up)}
                super().fill(factors)
                there = parameters[weight].cpu()
                parameters[weight].copy_(merged(there, factors[down], factors[up], self._lora.scale))

    def keep_scales(self, spaces: PolicySpaces, data: DataConfig) -> Scales:
        """Its normalisers over the unions of this run; dims of other datasets have no data in them.

        Raises FoundryError where dims have no statistics there, or where the scope is not the same.
        """
        fitted = completed(self.state["identity"], VLATaskConfig())["data"]
        for key in ("normalization", "normalization_scope", "percentiles", "clip"):
            there, here = fitted[key], json.loads(json.dumps(getattr(data, key)))
            if there != here:
                raise FoundryError(
                    f"the normaliser of {self.folder} is {there}, it cannot be kept as {here}",
                    hint=f"data.{key}={there}, or init.normalizer=refit",
                )
        kept: dict[str, list[Normalizer]] = {union: [] for union in UNIONS}
        lacking: list[str] = []
        for index, needed in self._scopes(spaces, data.normalization):
            for union in UNIONS:
                normalizer = getattr(self.scales, union)[index]
                columns = [
                    at if at is not None and normalizer.scalings[at].rule != "no data" else None
                    for at in self._columns(union, spaces)
                ]
                space: ActionSpace = getattr(spaces, union)
                lacking += [f"no {union} {space.names[i]}" for i in needed[union] if columns[i] is None]
                kept[union].append(normalizer.onto(space, columns))
        lacking += [line for union in UNIONS for line in self._changed(union, spaces)]
        if lacking:
            raise FoundryError(
                f"the normaliser of {self.folder} cannot be kept: {', '.join(dict.fromkeys(lacking))}",
                hint="init.normalizer=refit fits one to this mixture",
            )
        return Scales(tuple(kept["state"]), tuple(kept["action"]))

    def _scopes(
        self, spaces: PolicySpaces, normalization: str
    ) -> Iterator[tuple[int, Mapping[str, Collection[int]]]]:
        """For each normaliser of this run, the old one's index and the dims that it must have."""
        if normalization == "merged":
            yield 0, {union: range(len(getattr(spaces, union))) for union in UNIONS}
            return
        for dataset in spaces.datasets:
            yield (
                self.spaces.dataset(dataset.name),
                {
                    "state": dataset.state.indices_in(spaces.state, dataset.embodiment).tolist(),
                    "action": dataset.action.indices_in(spaces.action, dataset.embodiment).tolist(),
                },
            )

    def _columns(self, union: str, spaces: PolicySpaces) -> Columns:
        return _places(_full_names(union, self.spaces), _full_names(union, spaces))

    def _changed(self, union: str, spaces: PolicySpaces) -> Iterator[str]:
        """Dims of one name and two meanings."""
        before: ActionSpace = getattr(self.spaces, union)
        for dim, at in zip(getattr(spaces, union), self._columns(union, spaces), strict=True):
            if at is None:
                continue
            for field in ("unit", "kind", "representation"):
                old, new = getattr(before.dims[at], field), getattr(dim, field)
                if old != new:
                    yield f"{union} {dim.name} has the {field} {old} there and {new} here"

    def _fresh(self, places: Mapping[str, Columns], spaces: PolicySpaces) -> Iterator[str]:
        for kind, columns in places.items():
            is_union = kind in UNIONS
            names = getattr(spaces, kind).names if is_union else spaces.embodiments
            fresh = [name for name, at in zip(names, columns, strict=True) if at is None]
            if fresh:
                what = f"{kind} dims" if is_union else "projections of embodiments"
                yield f"{what} that {self.folder} does not know start fresh: {', '.join(fresh)}"


def _places(before: Sequence[str], now: Sequence[str]) -> Columns:
    index_of = {name: i for i, name in enumerate(before)}
    return [index_of.get(name) for name in now]


def _full_names(union: str, spaces: PolicySpaces) -> list[str]:
    """Names of a union's dims, unshared ones with their embodiment even where there is but one."""
    embodiments = {dataset.embodiment for dataset in spaces.datasets}
    space: ActionSpace = getattr(spaces, union)
    return list((space.qualified(embodiments.pop()) if len(embodiments) == 1 else space).names)


def _named_axes(name: str, num_axes: int) -> dict[int, tuple[str, int]]:
    """The axes of a parameter that mean things with names: by axis what these are, and how often repeated."""
    axes = {}
    if name in SHARED_AXES and num_axes > SHARED_AXES[name]:
        axes[0] = (EMBODIMENTS, 1)
    if name in DIM_AXES:
        union, axis, repeats = DIM_AXES[name]
        axes[num_axes + axis] = (union, repeats)
    return axes


def _move(
    old: Tensor, new: Tensor, axes: Mapping[int, tuple[str, int]], places: Mapping[str, Columns]
) -> None:
    """Copy what is known along every named axis; `new` keeps the rest."""
    to, source = [np.arange(length) for length in new.shape], [np.arange(length) for length in old.shape]
    for axis, (kind, repeats) in axes.items():
        known = [(i, at) for i, at in enumerate(places[kind]) if at is not None]
        here, there = np.array(known, np.int64).reshape(-1, 2).T
        blocks = np.arange(repeats)[:, None]
        to[axis] = (blocks * len(places[kind]) + here).ravel()
        source[axis] = (blocks * (old.shape[axis] // repeats) + there).ravel()
    values = old[tuple(map(torch.from_numpy, np.ix_(*source)))].to(new.device)
    new[tuple(torch.from_numpy(index).to(new.device) for index in np.ix_(*to))] = values
