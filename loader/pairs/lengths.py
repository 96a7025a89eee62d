"""How many tokens pairs have: derived from the tables by a tokenizer, and kept in the store's cache.

Legend: E pairs of a shard, n pairs of a selection.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenVersion, Part
from robot_foundry.catalog.pairs.derived import captions_of, turns_of
from robot_foundry.catalog.pairs.tables import PAIRS
from robot_foundry.loader.pairs.cached import cached
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.loader.pairs.template import TEMPLATE_VERSION, PairText, num_text_tokens, variants
from robot_foundry.shards.tokens.tokenizer import Tokenizer

_AT_ONCE = 4096  # pairs whose texts are encoded together
TEXTS = ("image_member", "captions", "turns")  # of the columns of pairs, what tells the tokens of one


def tokens_of(part: Part, spec: PairSpec) -> NDArray[np.int32]:
    """The tokens [n] of the pairs that a component selects, each in the longest form that it can take."""
    selection = part.select()
    shard_n, row_n = selection.locate(np.arange(selection.num_samples))
    tokens_n = np.empty(len(row_n), np.int32)
    for shard in np.unique(shard_n).tolist():
        here = slice(*np.searchsorted(shard_n, [shard, shard + 1]).tolist())
        text_E = _text_tokens(part.opened, shard, spec.tokenizer)
        members = part.opened.shard_table(PAIRS, shard)["image_member"]
        pictures_E = pc.list_value_length(members).to_numpy()
        tokens_n[here] = (text_E + spec.image_tokens * pictures_E)[row_n[here]]
    return tokens_n


def pair_texts(table: pa.Table) -> Iterator[PairText]:
    """What each row of a table of pairs says."""
    for row in table.select(TEXTS).to_pylist():
        yield PairText(len(row["image_member"]), captions_of(row["captions"]), turns_of(row["turns"]))


def _text_tokens(opened: OpenVersion, shard: int, tokenizer: Tokenizer) -> NDArray[np.int32]:
    """Tokens [E] of each pair of a shard beside those of its pictures, in its longest form."""
    file = opened.manifest.files[f"{PAIRS}/{opened.manifest.shards[shard].key}"]
    # The table's bytes decide all, so versions that share a shard share this.
    of = {"table": file.blake3, "tokenizer": tokenizer.id, "template": TEMPLATE_VERSION}
    make = partial(_counted, opened, shard, tokenizer)
    return cached(opened.store, "pair-lengths", of, make)


def _counted(opened: OpenVersion, shard: int, tokenizer: Tokenizer) -> NDArray[np.int32]:
    table, longest = opened.shard_table(PAIRS, shard), []
    for first in range(0, table.num_rows, _AT_ONCE):
        forms = [variants(pair, tokenizer) for pair in pair_texts(table.slice(first, _AT_ONCE))]
        lengths = iter(num_text_tokens([form for of_pair in forms for form in of_pair], tokenizer))
        longest += [max(next(lengths) for _ in of_pair) for of_pair in forms]
    return np.array(longest, np.int32)
