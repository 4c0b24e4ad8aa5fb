"""Make cases.jsonl: ids and offsets from the Python package `tokenizers`, normal forms from the Python functions below.

    pip install tokenizers==0.23.2 zstandard
    python3 tests/golden/tokenizer/make.py SHARED

SHARED is a folder with `data/docs/sections.jsonl.gz` and `data/pretrain/aozora.jsonl.zst`. Only lines from sources under
the MIT licence (vite, angular) and in the public domain (Aozora Bunko) are taken.
"""

import gzip
import io
import json
import random
import re
import sys
import unicodedata
from pathlib import Path

import zstandard
from tokenizers import Tokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
KANJI = dict(re.findall(r"\('(.)', '(.)'\)", (ROOT / "crates/text/src/rules.rs").read_text(encoding="utf-8")))
INVISIBLE = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
BLANK = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
PLAIN = "かきくけこさしすせそたちつてとはひふへほ"
VOICED = "がぎぐげござじずぜぞだぢづでどばびぶべぼ"
KATAKANA = {chr(c): chr(c + 0x60) for c in range(0x3041, 0x3097)}


def letter(c):
    if c in "\u301c\u223c\u223e\u3030":
        return "~"
    lower = c.lower()
    return lower if len(lower) == 1 and lower != c else KANJI.get(c, c)


def iteration(match):
    previous, mark = match[1], match[2]
    katakana = previous >= "ァ"
    if katakana != (mark in "ヽヾ"):
        return match[0]
    kana = chr(ord(previous) - 0x60) if katakana else previous
    kana = {**dict(zip(VOICED, PLAIN)), **dict(zip("ぱぴぷぺぽ", "はひふへほ"))}.get(kana, kana)
    if mark in "ゞヾ":
        kana = dict(zip(PLAIN, VOICED)).get(kana, kana)
    return previous + (KATAKANA[kana] if katakana else kana)


def normalize(text):
    """The rules of shirube-1, another way than crates/text does it."""
    parts = re.split("([゛゜])", INVISIBLE.sub("", text))
    text = "".join(
        p if p in "゛゜" else unicodedata.normalize("NFC", "".join(map(letter, unicodedata.normalize("NFKD", p)))) for p in parts
    )
    text = re.sub(f"[{BLANK}]+", " ", text).strip(" ")
    lone = "(?![\u2010-\u2015\u2212-])"
    text = re.sub(f"([ァ-ヺー])[\u2010-\u2015\u2212]{lone}", r"\1ー", text)
    text = re.sub(f"([ぁ-ゖ])[\u2010\u2011\u2212]{lone}", r"\1ー", text)
    text = re.sub("[\u2010-\u2013\u2212]", "-", text)
    text = re.sub("ー+", "ー", text)
    before = None
    while before != text:  # one mark at a time, from the left
        before, text = text, re.sub("([ぁ-ゖァ-ヺ])([ゝゞヽヾ])(?![\u3099\u309a])", iteration, text, count=1)
    return text


def lines(path, sources):
    raw = path.read_bytes()
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)) if path.suffix == ".zst" else gzip.GzipFile(fileobj=io.BytesIO(raw))
    for line in io.TextIOWrapper(raw, encoding="utf-8"):
        record = json.loads(line)
        if record["source"] in sources:
            yield from (part for part in record["text"].split("\n") if 8 <= len(part) <= 120)


HAND = """
東京都の知事選挙は1999年4月に行われた。|ソフトウェアのインストールとReactコンポーネントの再レンダリング
ﾊﾝｶｸｶﾞﾅ ﾊﾟｿｺﾝ ｳﾞｧｲｵﾘﾝ ﾃﾞｰﾀﾍﾞｰｽ|ＡＢＣ１２３　ｶﾀｶﾅ　㈱㍿①℃㌔㌶½|Ruby RUBY ruby ＲＵＢＹ
デ−タベ−ス コンピュ‐タ― サーバｰ|すごーーーい らーめん ら‐めん らーーめん|である――と彼は言った。だ—つまり
ア――イ|A−B ア-オ A-Z 3−2 Wi\u2011Fi 2010–2020 ア‐‐イ ア—‐ ア‐-|いすゞ かゝる こゝろ バヾ づゝ いすゝ パヽ ゝ カゝ々人々|がゝゝゞ
舊字體 國會圖書館 髙橋 﨑山 渡邉 渡邊 齋藤 𠮷野家|葛󠄀城市 辻󠄁 邊󠄂|が゙ ゛ ゜ あ゛ か゛ ﾞ ｱﾞ
か\u3099き\u3099く\u309a は\u309aひ\u3099 ヴ ウ\u3099|é e\u0301 Å Å ﬁ ﬂ ö O\u0308 H\u0331 h\u0331 ẞ ß İ I\u0307 ı Σ ς
🍣 🍣🍺 👨‍👩‍👧‍👦 👍🏽 🇯🇵 ❤️ ☺ ✈︎|🍣|🍣🍣🍣🍣🍣🍣🍣🍣🍣🍣🍣🍣🍣🍣🍣🍣|\u200b\ufeff\u2060|﻿先頭のBOM
〜 ～ ∼ 〰 ~ 10〜20 10～20|、。・「」『』【】（）？！…‥―|\\u0000 \u0000\u0007 制御\u001f文字|	タブ	と\u3000全角\u00a0空白\u2003
한국어 텍스트 각각|中文简体字 繁體字 龘 𪚥 鱻 㐂 䯂|Привет мир Ωμέγα שלום مرحبا ไทย हिन्दी|x² + y³ = z₁ ∑∫∂ ≠ ≤ ∞ → ⇒
fn main() { println!("{}", x_1); } // コメント|https://example.com/path?q=%E6%97%A5&lang=ja#top|npm i -D vite@5.0.0 && npx vite build --base=/ja/
2024-01-31T12:34:56Z v1.2.3-rc.4 0x1F 1,234,567円 ３．１４|C++ C# F# .NET Node.js Vue.js @angular/core|[PAD] [UNK] [MASK] [Q] [D] [SEP] <0xE3> <unk>
㍻㍼㍽㍾㋿ ㈠ ㊤ ⅣⅨ ⓐ ㎏ ㎡ ﷺ|ゟヿ ㇰㇱ 〱 〲 〳〵 ヷヸヹヺ ゔ ゕゖ ヵヶ ヮ|　|   |。|ー|ーー|あ|亜|a|1|-
"""


def main():
    shared = Path(sys.argv[1])
    random.seed(20)
    cases = [""]
    cases += [part.encode().decode("unicode_escape").encode("latin-1").decode() if "\\u" in part and part.isascii() else
              re.sub(r"\\u([0-9a-f]{4})", lambda m: chr(int(m[1], 16)), part) for line in HAND.split("\n") for part in line.split("|") if part]
    cases += ["ア" * 3000, "東京都" * 700, "abcdefghij" * 200, "🍣" * 300, "か\u3099" * 300, "日本語 " * 300, "9" * 1000]
    docs = sorted(set(lines(shared / "data/docs/sections.jsonl.gz", {"vite", "angular"})))
    novels = sorted(set(lines(shared / "data/pretrain/aozora.jsonl.zst", {"aozora"})))
    cases += random.sample(docs, 200) + random.sample(novels, 160)
    pool = [chr(c) for r in ((0x20, 0x7F), (0xA0, 0x250), (0x300, 0x330), (0x3000, 0x3100), (0x3200, 0x3400), (0x4E00, 0x5200), (0xFF00, 0xFFF0), (0x1F300, 0x1F600))
            for c in range(*r) if unicodedata.category(chr(c)) != "Cn"]
    cases += ["".join(random.choices(pool, k=random.randint(1, 30))) for _ in range(80)]
    tokenizer = Tokenizer.from_file(str(ROOT / "pkg/model/tokenizer.json"))
    with open(HERE / "cases.jsonl", "w", encoding="utf-8", newline="\n") as out:
        for text in cases:
            normalized = normalize(text)
            encoding = tokenizer.encode(normalized)
            offsets = []
            left = []  # byte pieces: `tokenizers` gives each the whole unknown run, we give it its character
            for i, (start, end) in zip(encoding.ids, encoding.offsets):
                if 6 <= i < 262:
                    if not left:
                        left = [(c, c + 1) for c in range(start, end) for _ in normalized[c].encode()]
                    offsets.append(left.pop(0))
                else:
                    offsets.append((start, end))
            json.dump({"text": text, "normalized": normalized, "ids": encoding.ids, "offsets": offsets}, out, ensure_ascii=False, separators=(",", ":"))
            out.write("\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
