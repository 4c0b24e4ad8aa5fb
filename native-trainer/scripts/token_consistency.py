"""Measure tokenizers on held-out text: does a noun become the same tokens alone and inside its sentence?

Reads normalised lines (standard input), cuts them into sentences, takes 3,000, finds nouns with MeCab, and prints for each
tokenizer: the share of nouns and of noun runs (compounds) whose tokens stand unbroken in their sentence, the share of MeCab's
word borders that are token borders, characters per token, the share of byte pieces.

    pip install fugashi==1.5.2 unidic-lite==1.0.8 tokenizers==0.23.2
    shirube-train tokenizer-corpus --evaluation PASSAGES | python3 token_consistency.py A/tokenizer.json B/tokenizer.json
"""

import random
import sys

import fugashi
import unidic_lite
from tokenizers import Tokenizer

tagger = fugashi.GenericTagger(f'-d "{unidic_lite.DICDIR}" -r "{unidic_lite.DICDIR}/mecabrc"')


def nouns(sentence):
    """Single nouns and noun runs of two characters and more; ends of all words."""
    single, runs, ends, run, at = [], [], [], "", 0
    for word in tagger(sentence):
        kind, detail = word.feature[0], word.feature[1]
        at = sentence.index(word.surface, at) + len(word.surface)
        ends.append(at)
        if kind == "名詞" and detail != "数詞" and len(word.surface) >= 2:
            single.append(word.surface)
        if kind == "名詞" and detail != "数詞" or kind == "接尾辞":
            run += word.surface
        else:
            runs.append(run)
            run = ""
    return single, [r for r in runs + [run] if len(r) >= 2], ends


def contains(ids, part):
    return any(ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1))


def main():
    sys.stdin.reconfigure(encoding="utf-8")
    sentences = sorted({s + "。" for line in sys.stdin for s in line.strip().split("。") if len(s) > 10})
    sentences = random.Random(0).sample(sentences, min(3000, len(sentences)))
    parsed = [(s, *nouns(s)) for s in sentences]
    print(len(sentences), "sentences")
    for path in sys.argv[1:]:
        tokenizer = Tokenizer.from_file(path)
        whole = {"nouns": [0, 0], "runs": [0, 0], "borders": [0, 0]}
        n_chars = n_tokens = n_bytes = 0
        for sentence, single, runs, ends in parsed:
            encoding = tokenizer.encode(sentence)
            n_chars += len(sentence)
            n_tokens += len(encoding.ids)
            n_bytes += sum(6 <= i < 262 for i in encoding.ids)
            token_ends = {end for _, end in encoding.offsets}
            for name, hits in (
                ("nouns", [contains(encoding.ids, tokenizer.encode(noun).ids) for noun in single]),
                ("runs", [contains(encoding.ids, tokenizer.encode(run).ids) for run in runs]),
                ("borders", [end in token_ends for end in ends]),
            ):
                whole[name][0] += sum(hits)
                whole[name][1] += len(hits)
        shares = "  ".join(f"{name} {hit / max(n, 1):.4f} of {n}" for name, (hit, n) in whole.items())
        print(f"{path}: {shares}  characters per token {n_chars / n_tokens:.3f}  bytes {n_bytes / n_tokens:.4f}")


if __name__ == "__main__":
    main()
