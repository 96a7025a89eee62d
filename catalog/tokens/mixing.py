"""What may be mixed of versions of tokens: those of one tokenizer."""

from __future__ import annotations

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.tokens.schema import schema_of
from robot_foundry.runtime.errors import FoundryError


def check_tokenizers(opened: OpenMixture) -> None:
    """FoundryError where the components have ids of several tokenizers."""
    ids = {part.name: schema_of(part.manifest).tokenizer for part in opened.parts}
    if len(set(ids.values())) > 1:
        listed = ", ".join(f"'{name}' by {tokenizer[:12]}" for name, tokenizer in ids.items())
        raise FoundryError(
            f"tokens of several tokenizers cannot be mixed: {listed}",
            hint="foundry-data tokenize makes tokens of the same text by another tokenizer",
        )
