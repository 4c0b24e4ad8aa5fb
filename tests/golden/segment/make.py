"""Make cases.jsonl and vocab.txt: words from fugashi with unidic-lite, ids from transformers' BertJapaneseTokenizer.

    pip install fugashi==1.5.2 unidic-lite==1.0.8 transformers==5.3.0
    python3 tests/golden/segment/make.py SHARED

SHARED is a folder with `data/jaquad/dev/passages.jsonl.gz` and `data/docs/sections.jsonl.gz`; of the second only lines from sources
under the MIT licence are taken. The vocabulary is made of the lines themselves, so that both whole words and pieces occur.
"""

import collections
import gzip
import json
import os
import random
import re
import sys
import tempfile
import unicodedata
from pathlib import Path

import fugashi
import unidic_lite
from transformers import BertJapaneseTokenizer

HERE = Path(__file__).parent
DICDIR = unidic_lite.DICDIR
tagger = fugashi.GenericTagger(f'-d "{DICDIR}" -r "{os.path.join(DICDIR, "mecabrc")}"')
draw = random.Random(7)

EDGES = """

 
   テスト   
\tテスト　テスト\u00a0　
ﾊﾝｶｸｶﾀｶﾅ ﾃﾞｽ
①②③㈱㍿㌔㊙
…‥～〜ー－
[MASK]
[CLS]テスト[SEP]
A[MASK]B [MASK] C
[MASK][MASK][[MASK]]
［ＭＡＳＫ］
[unused0] [unused1]日本
が\u3099ぱ\u309aか\u3099は\u309a
か゛は゜ﾞﾟ
👨‍👩‍👧‍👦と👍🏽
𠮷野家で𠮟る
☃❄︎❤️
a\x0cb a\x0db a\x0bb a\x85b a\u2028b
\x1c日\x1d本\x1e語\x1f
日本\x00語は消える[MASK]が残る
a\u200bb\ufeffBOM\u00ad
１２３４５ＡＢＣ
CaféﬁＱ\u0323\u0307ẛ\u0323
\uffff日\uffff\uffff本\ufffe\uffff
\ue000\ue001😀
##日本 日本## ##us
々々〇〇ゝゞヽヾ
昭和六十三年一月二十八日
ヴァイオリンとゔぁいおりん
（＾＾）／~~~(;_;)ｗｗｗ
https://example.com/a?b=c&d=%E6%97%A5
foo_bar::baz<T>()->{0x1F,3.14e-5}
すもももももももものうち
にわにはにわにわとりがいる
東京都京都府東京特許許可局
외국어 한국어 ᄀ\u1161ᆨ
Привет мир Ελληνικά עברית العربية ไทย हिन्दी
""".split("\n")[1:-1]


def adversarial():
    yield from EDGES
    for c in "aあアー漢1。、 😀\u3099Ω":
        for n in (24, 25, 26, 100, 101, 300):
            yield c * n
    yield "スーパーカリフラジリスティックエクスピアリドーシャス" * 3
    yield "pneumonoultramicroscopicsilicovolcanoconiosis" * 3
    yield "寿限無寿限無五劫の擦り切れ海砂利水魚の水行末雲来末風来末"
    ranges = [(0x20, 0x7F), (0xA1, 0x180), (0x370, 0x400), (0x2000, 0x2070), (0x2190, 0x2600), (0x3041, 0x3100), (0x3200, 0x3400)]
    ranges += [(0x4E00, 0x9FA0), (0xAC00, 0xAC60), (0xF900, 0xFA00), (0xFF01, 0xFFE0), (0x1F300, 0x1F600), (0x20000, 0x20100)]
    for _ in range(60):
        line = ""
        while len(line) < draw.randrange(1, 40):
            line += chr(draw.randrange(*draw.choice(ranges))) * draw.choice([1, 1, 1, 2, 5])
        yield line


def real(shared):
    lines = []
    with gzip.open(shared / "data/jaquad/dev/passages.jsonl.gz", "rt", encoding="utf-8") as f:
        for line in f:
            lines += [s for s in re.findall("[^。]+。", json.loads(line)["text"]) if 10 < len(s) <= 90]
    yield from draw.sample(lines, 160)
    lines = []
    with gzip.open(shared / "data/docs/sections.jsonl.gz", "rt", encoding="utf-8") as f:
        for line in f:
            section = json.loads(line)
            if section["source"] in ("vite", "angular"):
                lines += [s for s in section["text"].split("\n") if 10 < len(s) <= 90]
    yield from draw.sample(sorted(set(lines)), 90)


def vocabulary(lines):
    words, chars = collections.Counter(), collections.Counter()
    for line in lines:
        for word in (w.surface for w in tagger(unicodedata.normalize("NFKC", line))):
            words[word] += 1
            chars.update(("##" if i else "") + c for i, c in enumerate(word))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"[unused{i}]" for i in range(10)), ""]
    pieces += "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    # Characters that occur once stay unknown.
    pieces += sorted(c for c, n in chars.items() if n > 1)
    pieces += sorted(w for w, n in words.items() if n > 1)
    pieces += sorted("##" + w[1:] for w in words if len(w) > 2)
    return list(dict.fromkeys(pieces))


def main(shared):
    texts = list(real(shared))
    vocab = HERE / "vocab.txt"
    vocab.write_text("".join(p + "\n" for p in vocabulary(texts)), encoding="utf-8", newline="")
    options = {"word_tokenizer_type": "mecab", "subword_tokenizer_type": "wordpiece", "mecab_kwargs": {"mecab_dic": "unidic_lite"}}
    tokenizer = BertJapaneseTokenizer(str(vocab), do_lower_case=False, **options)
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    with open(HERE / "cases.jsonl", "w", encoding="utf-8", newline="") as f:
        for text in [*texts, *adversarial()]:
            words = [w.surface for w in tagger(unicodedata.normalize("NFKC", text))]
            case = {"text": text, "words": words, "ids": encode(text)}
            # Lines whose words are in tiny.bin, which is read where the whole dictionary is not there.
            if text in EDGES or len(text) <= 20 and text in texts:
                case["tiny"] = True
            # As colbert-ai up to 0.2.19 made it; the first of these ids gave way to the marker.
            overwritten = encode(". " + text)
            if overwritten[1:] != case["ids"]:
                case["overwritten"] = overwritten
            f.write(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
