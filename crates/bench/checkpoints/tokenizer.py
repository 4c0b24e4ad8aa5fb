"""A BertJapaneseTokenizer for `npm run bench -- checkpoints`: MeCab's words of JaQuAD's training text, and a WordPiece vocabulary of 16,384 made of them.

python tokenizer.py DATA OUT     DATA: folder with jaquad/train; OUT: folder for vocab.txt and tokenizer_config.json, as bert-base-japanese-v3 has them

Frequent characters stand for themselves and as continuations, then come the most frequent words. The same text gives the same file; the trainer of the package
tokenizers does not: it breaks ties by the order of a hash table.
"""
import gzip
import json
import string
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import fugashi
import unidic_lite

DATA, OUT = Path(sys.argv[1]), Path(sys.argv[2])
SIZE, MIN_CHARACTERS = 16_384, 5
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]

tagger = fugashi.GenericTagger(f"-r /dev/null -d {unidic_lite.DICDIR}")
words = Counter()
for name in ("passages", "queries"):
    with gzip.open(DATA / "jaquad" / "train" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as rows:
        for row in rows:
            text = unicodedata.normalize("NFKC", json.loads(row)["text"]).replace("\n", " ")
            words.update(word.surface for word in tagger(text))
characters = Counter()
for word, count in words.items():
    characters.update({character: count * word.count(character) for character in set(word)})


def by_count(counter):
    return [piece for piece, _ in sorted(counter.items(), key=lambda item: (-item[1], item[0]))]


kana = [chr(code) for code in range(0x3041, 0x30FF)]
alphabet = list(dict.fromkeys([*string.ascii_letters, *string.digits, *string.punctuation, *kana, *by_count(Counter({c: n for c, n in characters.items() if n >= MIN_CHARACTERS}))]))
pieces = list(dict.fromkeys([*SPECIALS, *alphabet, *(f"##{character}" for character in alphabet), *by_count(words)]))[:SIZE]
OUT.mkdir(parents=True, exist_ok=True)
(OUT / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
config = dict(tokenizer_class="BertJapaneseTokenizer", do_lower_case=False, word_tokenizer_type="mecab", subword_tokenizer_type="wordpiece", mecab_kwargs={"mecab_dic": "unidic_lite"}, model_max_length=512)
(OUT / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
covered = sum(words[piece] for piece in pieces) / words.total()
print(f"{len(pieces)} pieces, {len(alphabet)} characters; {covered:.1%} of the words are one piece")
