"""What is learnt beside the rows of a run, by any task that learns to answer or to go on with text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from robot_foundry.catalog.mixture import weight_doubts
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.tokens.schema import schema_of
from robot_foundry.loader.pairs.spec import PairRows, PairSpec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models import llm
from robot_foundry.trainer.models.vision_language import ANSWER
from robot_foundry.trainer.tasks.drawn import Drawn
from robot_foundry.trainer.tasks.llm.figures import bits_per_byte, perplexity
from robot_foundry.trainer.tasks.llm.inputs import text_inputs
from robot_foundry.trainer.tasks.llm.inputs import until as text_until
from robot_foundry.trainer.tasks.mixtures import BatchSettings, MixtureSettings, find_mixture, mix_weights
from robot_foundry.trainer.tasks.vlm.config import TEXT_SECTION, TextConfig


def find_pairs(data: MixtureSettings, rows: PairRows, key: str) -> OpenMixture:
    """The mixture of pairs that the recipe names under `key`."""
    return find_mixture(
        data, PairSpec(rows, image_tokens=1), kind="pairs", key=key,
        source="foundry-data ingest pairs makes datasets of pictures and what is said of them",
    )  # fmt: skip


def find_text(text: TextConfig, store: str | None) -> OpenMixture | None:
    """The mixture of tokens that is learnt beside, if any; its default store is `store`."""
    if text.mix is None:
        return None
    return find_mixture(
        replace(text, store=text.store or store), text.rows, kind="tokens", key=f"{TEXT_SECTION}.mix",
        source="foundry-data tokenize makes tokens of a dataset of text",
    )  # fmt: skip


def check_text(text: OpenMixture, tokenizer: Tokenizer) -> None:
    """FoundryError unless the tokens are of this tokenizer."""
    theirs = schema_of(text.parts[0].manifest).tokenizer
    if theirs != tokenizer.id:
        raise FoundryError(
            f"{TEXT_SECTION}.mix was made with the tokenizer {theirs[:12]}, "
            f"the model has {tokenizer.id[:12]}",
            hint="tokenize the text with that of the model: foundry-data tokenize --tokenizer",
        )


def doubts(opened: OpenMixture, settings: MixtureSettings) -> Iterator[str]:
    """What a user is told of a mixture that may not be as it was meant."""
    yield from weight_doubts(opened.mixture, mix_weights(settings))
    yield from opened.kind.doubts_of_mixture(opened)


def text_stream(opened: OpenMixture, text: TextConfig, threads: int) -> Drawn:
    """The stream of text."""
    batch = BatchSettings(text.global_batch, threads)
    return Drawn(TEXT_SECTION, opened, text.rows, batch, text_inputs, text_until, loss=llm.LOSS)


def language_figures(sums: HeldOutSums) -> dict[str, float]:
    """The perplexity of a token of an answer, and of text the bits that a byte takes."""
    figures = {}
    if sums.counts.get(ANSWER):
        figures["perplexity"] = perplexity(sums.losses[ANSWER] / sums.counts[ANSWER])
    if sums.counts.get(llm.LOSS):
        figures["bits_per_byte"] = bits_per_byte(sums)
    return figures
