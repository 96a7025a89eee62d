"""The streams that are drawn beside robots, found in the store, and the inputs of all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.models import llm
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.cotrained import OUTPUT, JointInputs
from robot_foundry.trainer.models.vision_language import ANSWER
from robot_foundry.trainer.tasks.drawn import Drawn
from robot_foundry.trainer.tasks.mixtures import BatchSettings
from robot_foundry.trainer.tasks.vla.config import DataConfig, VLATaskConfig
from robot_foundry.trainer.tasks.vla.cotraining.config import PAIRS_SECTION
from robot_foundry.trainer.tasks.vlm.beside import check_text, doubts, find_pairs, find_text, text_stream
from robot_foundry.trainer.tasks.vlm.inputs import PAIRS, TEXT, picture_rows, until
from robot_foundry.trainer.tasks.vlm.work import beside_work, pairs_work
from robot_foundry.trainer.tasks.work import Work

ROBOT = "robot"  # the stream of the policy itself
# How the names of what each may move begin.
_MOVES = {PAIRS: ("backbone.", OUTPUT), TEXT: ("backbone.decoder.", OUTPUT)}
Beside = Mapping[str, OpenMixture]  # what is learnt beside robots, by the name of its stream


def find_beside(data: DataConfig) -> Beside:
    """The mixtures that the recipe names beside that of the robots; reads the store, writes nothing."""
    found: dict[str, OpenMixture] = {}
    pairs, image = data.pairs, data.window.image
    if pairs.mix is not None:
        assert image is not None  # which the recipe is held to
        settings = replace(pairs, store=pairs.store or data.store)
        found[PAIRS] = find_pairs(settings, pairs.pair_rows(image), f"{PAIRS_SECTION}.mix")
    if (text := find_text(data.text, data.store)) is not None:
        found[TEXT] = text
    return found


def check_tokenizer(beside: Beside, tokenizer: Tokenizer | None) -> None:
    """UsageError where the policy has no tokenizer, FoundryError where text was made with another one."""
    if beside and tokenizer is None:
        keys = " and ".join(f"data.{name}" for name in beside)
        raise UsageError(
            f"{keys}: a policy that reads bytes has no words to answer in",
            hint="init.vlm=RUN starts from a vision-language model, data.tokenizer=NAME says a tokenizer",
        )
    if TEXT in beside and tokenizer is not None:
        check_text(beside[TEXT], tokenizer)


def check_backbone(beside: Beside, backbone: object) -> None:
    """UsageError where the backbone is another's, whose rows of pairs and text are not made here."""
    if beside and not isinstance(backbone, BackboneConfig):
        keys = " and ".join(f"data.{name}" for name in beside)
        raise UsageError(
            f"{keys}: a backbone of `transformers` learns from robots alone",
            hint="init.vlm=RUN with a run of foundry-train vlm learns them beside robots",
        )


def check_taught(beside: Beside, learning: Collection[str]) -> None:
    """UsageError where a stream moves none of the parameters that learn, which are given by name."""
    idle = [name for name in beside if not any(one.startswith(_MOVES[name]) for one in learning)]
    if idle:
        keys = " and ".join(f"data.{name}" for name in idle)
        raise UsageError(
            f"{keys}: nothing learns that answers or text would move",
            hint="leave them out, or let optim.lr_scales freeze less, or give the backbone model.lora",
        )


def beside_doubts(beside: Beside, data: DataConfig) -> Iterable[str]:
    """What a user is told of these mixtures."""
    settings = {PAIRS: data.pairs, TEXT: data.text}
    for name, opened in beside.items():
        yield from doubts(opened, settings[name])


def beside_streams(
    beside: Beside, config: VLATaskConfig, tokenizer: Tokenizer | None, learning: Sequence[str]
) -> dict[str, Drawn]:
    """The streams, by name. `learning` are the names of the parameters that learn."""
    data, streams = config.data, {}
    if PAIRS in beside:
        batch = BatchSettings(data.pairs.global_batch, data.threads)
        spec = pair_spec(config, tokenizer)
        streams[PAIRS] = Drawn(
            PAIRS_SECTION, beside[PAIRS], spec, batch, picture_rows, until,
            amounts=_pairs_work(config, spec, learning), loss=ANSWER,
        )  # fmt: skip
    if TEXT in beside:
        text = text_stream(beside[TEXT], data.text, data.threads)
        streams[TEXT] = replace(text, amounts=_text_work(config, learning))
    return streams


def _pairs_work(config: VLATaskConfig, spec: PairSpec, learning: Sequence[str]) -> Work | None:
    """None where there are adapters, of whose work nothing is known."""
    backbone, tied = config.model.backbone, OUTPUT not in learning
    assert isinstance(backbone, BackboneConfig)
    if config.model.lora.rank:
        return None
    return pairs_work(backbone, spec.rows.image, spec.rows.length, tied, learning)


def _text_work(config: VLATaskConfig, learning: Sequence[str]) -> Work | None:
    backbone = config.model.backbone
    assert isinstance(backbone, BackboneConfig)
    if config.model.lora.rank:
        return None
    return beside_work(backbone.decoder, config.data.text.rows.length, learning)


def pair_spec(config: VLATaskConfig, tokenizer: Tokenizer | None) -> PairSpec:
    """What a row of pairs is."""
    image, backbone = config.data.window.image, config.model.backbone
    assert image is not None and tokenizer is not None  # as `check_tokenizer` saw to
    assert isinstance(backbone, BackboneConfig)  # and `check_backbone`
    tokens = backbone.tokens_of(image)
    return PairSpec(config.data.pairs.pair_rows(image), tokenizer, tokens)


def loss_weights(beside: Beside, data: DataConfig) -> dict[str, float]:
    """What the losses of these streams weigh, by their names."""
    weights = {PAIRS: (ANSWER, data.pairs.weight), TEXT: (llm.LOSS, data.text.weight)}
    return dict(weights[name] for name in beside)


def joined(of_streams: Mapping[str, Any]) -> JointInputs:
    """The inputs of a microbatch, of those of each stream."""
    return JointInputs(of_streams[ROBOT], of_streams.get(PAIRS), of_streams.get(TEXT))
