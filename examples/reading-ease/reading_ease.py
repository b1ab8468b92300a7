"""How easy a text is to read: JSON of one item on standard input, JSON on standard output.

Nothing here knows of Penstock, and any language would do. Exit code 3 says that a text is too short to tell.
"""

import json
import re
import sys

VOWELS = re.compile("[aeiouy]+")


def syllables(word: str) -> int:
    found = len(VOWELS.findall(word))
    return max(1, found - (word.endswith("e") and not word.endswith("le")))


def main() -> int:
    item = json.load(sys.stdin)
    sentences = [one for one in re.split(r"[.!?]+", item["payload"]["text"]) if one.strip()]
    words = [word for one in sentences for word in re.findall("[a-z']+", one.lower())]
    least = item["parameters"]["least_words"]
    if len(words) < least:
        print(f"the text has {len(words)} words, {least} are needed", file=sys.stderr)
        return 3
    print(f"::progress 1/2 {len(words)} words", file=sys.stderr, flush=True)
    ease = 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * sum(map(syllables, words)) / len(words)
    json.dump({"ease": round(ease, 1), "words": len(words), "sentences": len(sentences)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
