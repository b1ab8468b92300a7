"""Texts for tests and measuring: made from word lists of our own, the same for the same seed.

They read like nothing in particular. Topics differ in their words, so that clusters can be found; lengths and sentences
vary, so that the detector has something to do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

__all__ = ["TOPICS", "make_documents", "texts"]

# One topic a line, its words after the colon; the first line has the words that all share.
_VOCABULARY = """
common: the a of and to in that it was for on with as at by from this which had but not were when there their more some
water: river mill wheel stone gate grain flour sluice channel weir bank meadow heron reed current flood dry pond
bread: dough oven salt butter crust knead yeast table supper kettle onion pepper garlic broth spoon plate honey
engine: bearing shaft bolt piston valve gear oil clutch brake axle spanner weld gauge pump motor torque fuel rust
law: judge court witness clause statute appeal verdict counsel hearing evidence contract party damages claim oath
sky: star planet orbit comet telescope lens galaxy dust moon eclipse gravity probe signal dish spectrum light
football: goal match referee keeper league coach stadium corner penalty season striker defender whistle pitch
medicine: fever nurse ward dose clinic symptom patient surgeon vaccine pulse bandage trial blood lung pharmacy scan
money: tax budget market price loan interest profit ledger invoice share bond currency trade wage pension debt cash
music: violin choir opera melody rhythm tempo chord drum stage audience concert tenor piano string rehearsal flute
mountain: glacier summit ridge rope valley storm snow tent compass trail climber avalanche rock peak cliff fog
"""
_LINES = [line.partition(":")[2].split() for line in _VOCABULARY.strip().splitlines()]
_COMMON = _LINES[0]
TOPICS = tuple(_LINES[1:])


def texts(count: int, *, words: int = 300, seed: int = 1) -> Iterator[str]:
    """`count` texts of about `words` words, of ten topics in turn."""
    source = random.Random(seed)
    for number in range(count):
        topic = TOPICS[number % len(TOPICS)]
        left = max(20, round(source.gauss(words, words / 8)))
        sentences = []
        while left > 0:
            length = min(left, max(5, round(source.gauss(15, 6))))
            chosen = [source.choice(topic) if source.random() < 0.45 else source.choice(_COMMON) for _ in range(length)]
            sentences.append(" ".join(chosen).capitalize() + source.choice("...?!"))
            left -= length
        paragraphs = [" ".join(sentences[at : at + 6]) for at in range(0, len(sentences), 6)]
        yield "\n\n".join(paragraphs) + f"\n\nNumber {number} of {count}.\n"


def make_documents(folder: Path, count: int, *, words: int = 300, seed: int = 1) -> None:
    """Writes them as `00000.txt`, … into a new folder."""
    folder.mkdir(parents=True)
    for number, text in enumerate(texts(count, words=words, seed=seed)):
        (folder / f"{number:05}.txt").write_text(text)
