"""Count words for vocabulary training.

Reads normalised lines (standard input), cuts them into words with MeCab (fugashi, unidic-lite), cuts words again where
their script changes, and writes `word<TAB>count`, most frequent first, to standard output.

    pip install fugashi==1.5.2 unidic-lite==1.0.8
    python3 mecab_words.py < corpus.txt > words.tsv
"""

import multiprocessing
import re
import sys
from collections import Counter
from itertools import islice

import fugashi
import unidic_lite

# The classes of crates/text/src/segment.rs.
HAN = "\u3400-\u4dbf\u4e00-\u9fff々〆〇\uf900-\ufaff\U00020000-\U0003ffff"
SCRIPT = re.compile(f"[ぁ-ゖゝゞ][ぁ-ゖゝゞー]*|[ァ-ヺー-ヾㇰ-ㇿ]+|[{HAN}]+|[a-zA-ZÀ-ÖØ-öø-ɏḀ-ỿ]+|[0-9]+|\\S")

tagger = None


def start():
    global tagger
    tagger = fugashi.GenericTagger(f'-Owakati -d "{unidic_lite.DICDIR}" -r "{unidic_lite.DICDIR}/mecabrc"')


def count(lines):
    counts = Counter()
    for line in lines:
        counts.update(tagger.parse(line).split(" "))
    return counts


def chunks(lines, size=5000):
    lines = iter(lines)
    while chunk := [line.rstrip("\n") for line in islice(lines, size)]:
        yield chunk


def main():
    words = Counter()
    with multiprocessing.Pool(initializer=start) as pool:
        for counts in pool.imap_unordered(count, chunks(sys.stdin)):
            words.update(counts)
    runs = Counter()
    for word, n in words.items():
        for run in SCRIPT.findall(word):
            runs[run] += n
    for word, n in sorted(runs.items(), key=lambda item: (-item[1], item[0])):
        print(word, n, sep="\t")


if __name__ == "__main__":
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    main()
