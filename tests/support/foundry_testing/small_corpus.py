"""Documents for tests: sentences from a few words, which a small model learns soon, and odd texts."""

from __future__ import annotations

from robot_foundry.runtime.keyed import generator

NOUNS = ("arm", "cube", "gripper", "table", "camera", "drawer", "robot", "shelf")
VERBS = ("lifts", "pushes", "opens", "sees", "turns", "reaches")
ADJECTIVES = ("red", "small", "open", "left", "heavy", "new")
PLACES = ("on the table", "in the drawer", "behind the shelf", "beside the robot")

# Texts that break what takes text for ASCII, for lines or for words, names of special tokens among them.
ODD = (
    "",
    " ",
    "\n",
    "x",
    "a line\r\nand another\n\n\n",
    "nul \x00 and escape \x1b[0m",
    "\ufeffafter a mark of byte order",
    "Grüße, 日本語, ελληνικά, עברית",
    "e\u0301 is not \u00e9, \ufb01 is no fi",
    "👩‍🚀 🇨🇭 \U0010ffff \ufffd",
    "<obs> <|endoftext|> <pad> <|user|> </s> [CLS]",
    "  leading, trailing and   many spaces\t\t ",
    "0123456789 1.5e-3 -7 3.14159",
    "abc" * 500,
)


def sentence(seed: int, number: int) -> str:
    """'The red arm lifts a cube on the table.', one of 9,216."""
    random = generator(seed, "sentence", number)

    def pick(words: tuple[str, ...]) -> str:
        return words[int(random.integers(len(words)))]

    return f"The {pick(ADJECTIVES)} {pick(NOUNS)} {pick(VERBS)} a {pick(NOUNS)} {pick(PLACES)}."


def small_corpus(count: int, *, seed: int = 0, longest: int = 12) -> list[str]:
    """`count` documents of one to `longest` sentences; equal arguments give equal documents."""
    documents = []
    for number in range(count):
        size = 1 + int(generator(seed, "document", number).integers(longest))
        documents.append(" ".join(sentence(seed, number * longest + i) for i in range(size)))
    return documents
