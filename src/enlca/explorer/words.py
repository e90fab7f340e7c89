"""What the words on the page mean: a question mark that unfolds one sentence and a link."""

from html import escape

GUIDE = "https://github.com/enlca/enlca/blob/main/docs/explorer.md"
IDEA = "https://github.com/enlca/enlca/blob/main/docs/the_idea.md"
MEANINGS = {
    "k": (
        "How much queries and keys are lengthened before they are compared; large k is sharp.",
        IDEA,
    ),
    "m": ("How many random features stand for a query or a key: more of them, less noise, more time.", IDEA),
    "F": ("The random matrix that makes features of queries and keys; redrawn, it gives other noise.", IDEA),
    "NLSA": (
        "Attention among the positions that a hash function puts into one bucket.",
        GUIDE,
    ),
    "effective N": (
        "The number of equally weighted positions that would be as concentrated as these weights.",
        GUIDE,
    ),
}


def question(word: str) -> str:
    """Return the question mark beside a word of MEANINGS."""
    sentence, link = MEANINGS[word]
    more = f'<a href="{link}" target="_blank" rel="noopener noreferrer">more</a>'
    label = escape(f"What is {word}?")
    return (
        f'<details class="what"><summary aria-label="{label}" title="{label}">?</summary>'
        f"<span>{escape(sentence)} {more}</span></details>"
    )


def questions(*words: str) -> str:
    """Return words with their question marks, in one line."""
    asked = "".join(f"<span><b>{escape(word)}</b>{question(word)}</span>" for word in words)
    return f'<div class="words">{asked}</div>'
