"""fugashi's words of a million characters and of adversarial lines: writes lines.txt and words.txt into a folder.

    python3 reference.py DATA OUT N_CHARACTERS

DATA holds `pretrain/*.jsonl.zst`. Lines are in NFKC; words of a line are joined by U+001F. Takes from every set in turn, so that all kinds of text
take part. Prints one line of JSON: counts, and fugashi's seconds.
"""

import io
import json
import os
import random
import sys
import time
import unicodedata
from pathlib import Path

import fugashi
import unidic_lite
import zstandard

data, out, wanted = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
dicdir = unidic_lite.DICDIR
tagger = fugashi.GenericTagger(f'-d "{dicdir}" -r "{os.path.join(dicdir, "mecabrc")}"')


def clean(line):
    return unicodedata.normalize("NFKC", line).replace("\n", " ").replace("\0", "")


def texts(path):
    with open(path, "rb") as f:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(f), encoding="utf-8"):
            yield json.loads(line)["text"]


sources = [texts(path) for path in sorted((data / "pretrain").glob("*.jsonl.zst"))]
lines, n = [], 0
while n < wanted and sources:
    for source in list(sources):
        text = next(source, None)
        if text is None:
            sources.remove(source)
            continue
        for line in text.split("\n"):
            if line:
                lines.append(clean(line))
                n += len(lines[-1])
real = len(lines)

draw = random.Random(5)
words = sorted({w.surface for line in lines[:2000] for w in tagger(line)})
ranges = [(0x20, 0x7F), (0xA1, 0x180), (0x370, 0x530), (0x2000, 0x2070), (0x2190, 0x2800), (0x3000, 0x3400), (0x4E00, 0x9FA0), (0xAC00, 0xAD00)]
ranges += [(0xE000, 0xE010), (0xF900, 0x10000), (0x1F300, 0x1F700), (0x20000, 0x2A6D0), (0x1, 0xA), (0xB, 0x20), (0x3041, 0x3100)]
for _ in range(8000):
    line = ""
    for _ in range(draw.randrange(1, 25)):
        kind = draw.random()
        if kind < 0.6:
            line += draw.choice(words)
        elif kind < 0.85:
            line += chr(draw.randrange(*draw.choice(ranges)))
        elif kind < 0.95:
            line += chr(draw.randrange(*draw.choice(ranges))) * draw.randrange(1, 60)
        else:
            line += draw.choice([" ", "  ", "\t", "　", "ーー"])
    lines.append(clean(line))
# Every code point of the plane, sixteen to a line.
for first in range(0, 0x10000, 16):
    if not 0xD800 <= first < 0xE000:
        lines.append(clean("".join("本" + chr(first + i) for i in range(16))))

start = time.perf_counter()
found = [[w.surface for w in tagger(line)] for line in lines]
seconds = time.perf_counter() - start
(out / "lines.txt").write_text("\n".join(lines), encoding="utf-8", newline="")
(out / "words.txt").write_text("\n".join("\x1f".join(words) for words in found), encoding="utf-8", newline="")
print(json.dumps({"lines": len(lines), "real": real, "characters": n, "all": sum(map(len, lines)), "seconds": seconds}))
