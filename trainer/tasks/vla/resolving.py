"""From the configuration of a policy to what it is trained on, found in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.store import as_store
from robot_foundry.catalog.tokens import tokenizers
from robot_foundry.normalization.representation import base_axes_note
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.tokens.tokenizer import OBS, Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.foreign.config import ForeignConfig, ForeignVLMConfig
from robot_foundry.trainer.models.sizes.sizes import taps_problems, vla_problems
from robot_foundry.trainer.tasks.described import read_values
from robot_foundry.trainer.tasks.mixtures import find_mixture, mix_weights
from robot_foundry.trainer.tasks.origin import found_origin
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.cotraining.config import room_problems
from robot_foundry.trainer.tasks.vla.cotraining.language import (
    Language,
    after_training,
    language_in,
    language_of,
)
from robot_foundry.trainer.tasks.vla.cotraining.streams import (
    beside_doubts,
    check_backbone,
    check_taught,
    check_tokenizer,
    find_beside,
)
from robot_foundry.trainer.tasks.vla.features import check_constant
from robot_foundry.trainer.tasks.vla.origins.foreign import ForeignOrigin, is_foreign
from robot_foundry.trainer.tasks.vla.origins.policy import Origin
from robot_foundry.trainer.tasks.vla.origins.vision_language import VLMOrigin
from robot_foundry.trainer.tasks.vla.policy_spaces import mixture_spaces
from robot_foundry.trainer.tasks.vla.prompts import tokenizer_in, words_of
from robot_foundry.trainer.tasks.vla.recipe import default_dir, from_resolved
from robot_foundry.trainer.tasks.vla.vla_task import VLATask
from robot_foundry.trainer.tasks.vocabulary import with_room
from robot_foundry.windows.mixtures import warnings_for, window_rows

REACHED, COMMANDED = "next_state", "command"


def resolve_vla(asked: VLATaskConfig) -> VLATask:
    """Find the mixture, its spaces and what the run starts from; reads the store, writes nothing."""
    data, window = asked.data, asked.data.window
    opened = find_mixture(
        data, window, kind="robot", source="foundry-data ingest makes datasets of recordings of robots",
        gap=lambda mixture: window_rows(mixture, window.timing),
    )  # fmt: skip
    beside = find_beside(data)
    folder = default_dir(asked, [one.mixture.id for one in (opened, *beside.values())])
    begun = _begun(asked, Path(asked.run.dir or folder))
    config = _with(asked, begun)
    check_backbone(beside, config.model.backbone)
    check_tokenizer(beside, begun.tokenizer)
    language = after_training(begun.language, beside, data)
    spaces = mixture_spaces(opened, config)
    warnings = warnings_for(opened, mix_weights(data), timing=window.timing)
    if window.stream == REACHED and COMMANDED in unions_of(opened).streams:
        warnings.append(
            f"targets are where the robot was next ({REACHED}), with whatever moved it besides; what it was "
            f"told is there as well: data.window.stream={COMMANDED}"
        )
    for dataset in spaces.datasets:
        warnings += base_axes_note(dataset.name, dataset.state, dataset.action, window.representation)
    words = words_of(
        begun.tokenizer, config.model.text_length, config.model.obs_tokens, _family(config.model.backbone)
    )
    task = VLATask(
        config, opened, (*warnings, *beside_doubts(beside, data)), spaces, words, folder,
        beside=beside, language=language, origin=begun.origin,
    )  # fmt: skip
    if beside:
        check_taught(beside, task.learning())
    if config.data.cache_features:
        check_constant(task.features_change_by())
    return task


@dataclass(frozen=True)
class _Begun:
    """What a run starts from.

    None is what the recipe says of the backbone, bytes of the tokenizer, and of language that it knows none.
    """

    origin: Origin | VLMOrigin | ForeignOrigin | None = None
    backbone: BackboneConfig | ForeignConfig | None = None
    tokenizer: Tokenizer | None = None
    language: Language | None = None


def _begun(asked: VLATaskConfig, run_dir: Path) -> _Begun:
    init = asked.init
    if init.vlm is not None and is_foreign(init.vlm):
        foreign = found_origin(partial(ForeignOrigin.find, init.vlm), run_dir)
        if foreign is None:
            return _of_checkpoint(run_dir)
        return _Begun(foreign, foreign.backbone(asked.model.backbone), foreign.tokenizer)
    if init.vlm is not None:
        found = found_origin(partial(VLMOrigin.find, init.vlm), run_dir)
        return _of_checkpoint(run_dir) if found is None else _of_vlm(found, init.only)
    if init.weights is not None:
        policy = found_origin(partial(Origin.find, init.weights), run_dir)
        return _of_checkpoint(run_dir) if policy is None else _of_policy(policy, init.only)
    if asked.data.tokenizer is None:
        return _Begun()
    return _Begun(tokenizer=tokenizers.find(as_store(asked.data.store), asked.data.tokenizer))


def _of_vlm(found: VLMOrigin, only: Sequence[str]) -> _Begun:
    language = language_of(found.files)
    taken = None if language is None else language.taken(only)
    return _Begun(found, found.backbone, found.tokenizer, taken)


def _of_policy(policy: Origin, only: Sequence[str]) -> _Begun:
    tokenizer = tokenizer_in(policy.folder)
    if tokenizer is None:
        return _Begun(policy)
    language = language_in(policy.folder)
    taken = None if language is None else language.taken(only)
    return _Begun(policy, _backbone_in(policy.folder), tokenizer, taken)


def _of_checkpoint(run_dir: Path) -> _Begun:
    """As a run that has checkpoints began, whose origin is gone."""
    newest = checkpoint.latest(run_dir)
    assert newest is not None
    return _Begun(None, _backbone_in(newest), tokenizer_in(newest), language_in(newest))


def _backbone_in(folder: Path) -> BackboneConfig | ForeignConfig:
    return from_resolved(read_values(folder)).model.backbone


def _family(backbone: BackboneConfig | ForeignConfig) -> str | None:
    """Whose template instructions are written by; None for that of our own models."""
    return backbone.model_type if isinstance(backbone, ForeignVLMConfig) else None


def _with(asked: VLATaskConfig, begun: _Begun) -> VLATaskConfig:
    """The recipe with what the weights and the tokenizer say."""
    backbone, tokenizer = begun.backbone or asked.model.backbone, begun.tokenizer
    if begun.origin is not None and tokenizer is not None and asked.data.tokenizer is not None:
        theirs = tokenizers.find(as_store(asked.data.store), asked.data.tokenizer)
        if theirs.id != tokenizer.id:
            raise UsageError(
                f"the weights know the tokenizer {tokenizer.id[:12]}, data.tokenizer is {theirs.id[:12]}",
                hint="leave data.tokenizer out",
            )
    if tokenizer is not None and begun.backbone is None and isinstance(backbone, BackboneConfig):
        backbone = replace(backbone, decoder=with_room(backbone.decoder, tokenizer))
    lacks_obs = tokenizer is not None and OBS not in tokenizer.specials
    model = replace(asked.model, backbone=backbone, learned_obs=asked.model.learned_obs or lacks_obs)
    image = asked.data.window.image
    room = room_problems(asked.data.pairs, backbone, image)
    if problems := [*vla_problems(model, image), *taps_problems(model), *room]:
        raise UsageError(f"the weights do not fit the recipe: {'; '.join(problems)}")
    data = replace(asked.data, tokenizer=None if tokenizer is None else tokenizer.id)
    return replace(asked, model=model, data=data)
