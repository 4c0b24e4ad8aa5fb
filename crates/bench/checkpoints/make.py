"""Checkpoints for `npm run bench -- checkpoints`, and what PyLate and the original procedure compute with them.

python make.py DATA OUT [--quick]     DATA: folder with jsquad/valid; OUT: folder to write, where `tokenizer` and the trained folders are already

Three random networks in real layouts, initialised as `transformers` does: PyLate with BERT (4 x 256) and ModernBERT (6 x 256), and a BERT-base (12 x 768,
vocabulary of 32,768) as JaColBERT is saved, with MeCab and WordPiece. `trained-colbert-ai` and `trained-pylate` are what `shirube-train export` wrote.
Texts are 200 questions and 200 passages of jsquad/valid (40 with --quick). The original procedure is that of colbert-ai's tokenizers and model, on
`transformers` alone. What is there already is kept.
"""
import gzip
import json
import os
import random
import shutil
import string
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Threads that wait by spinning take several times as long where other work runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch
from pylate import models as pylate
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as subword
from transformers import AutoTokenizer, BertConfig, BertModel, ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

DATA, OUT = Path(sys.argv[1]), Path(sys.argv[2])
N = 40 if "--quick" in sys.argv else 200
DIM, VOCAB = 128, 32_768
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
SEED = 20261120


def read(name):
    with gzip.open(DATA / "jsquad" / "valid" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


QUERIES, PASSAGES = read("queries"), read("passages")
random.Random(1).shuffle(QUERIES)
random.Random(2).shuffle(PASSAGES)
TEXTS = {"query": QUERIES[:N], "document": PASSAGES[:N]}
BERT = dict(vocab_size=VOCAB, hidden_size=256, num_attention_heads=4, intermediate_size=512)
IDS = dict(pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3)


def word_piece():
    tok = Tokenizer(subword.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(PASSAGES, trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=SPECIALS, initial_alphabet=list(string.punctuation), show_progress=False))
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tok


def with_pylate(name, network, tok):
    folder, plain = OUT / f"{name}.part", OUT / "plain"
    shutil.rmtree(folder, ignore_errors=True)
    network.save_pretrained(plain)
    PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]").save_pretrained(plain)
    pylate.ColBERT(str(plain), device="cpu", embedding_size=DIM).save(str(folder))
    shutil.rmtree(plain)
    folder.rename(OUT / name)


def as_jacolbert(name, network):
    folder = OUT / f"{name}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    state = {f"bert.{k}": v.contiguous() for k, v in network.state_dict().items() if v.is_floating_point()}
    save_file(state | {"linear.weight": torch.nn.Linear(network.config.hidden_size, DIM, bias=False).weight.detach()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.config.to_dict() | {"architectures": ["HF_ColBERT"]}))
    metadata = dict(query_token_id="[unused0]", doc_token_id="[unused1]", query_maxlen=32, doc_maxlen=300, dim=DIM, similarity="cosine", attend_to_mask_tokens=False, mask_punctuation=True)
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    lines = (OUT / "tokenizer" / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    lines += [f"[filler{i}]" for i in range(VOCAB - len(lines))]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(OUT / "tokenizer" / "tokenizer_config.json", folder)
    folder.rename(OUT / name)


def done(folder, reference):
    texts = folder / f"{reference}.json"
    if not texts.exists():
        return False
    have = json.loads(texts.read_text(encoding="utf-8"))
    return all(have[role][:N] == TEXTS[role] for role in TEXTS)


def save(folder, reference, found, start):
    save_file({f"{role}.{i}": torch.as_tensor(rows).float().contiguous() for role in TEXTS for i, rows in enumerate(found[role])}, folder / f"{reference}.safetensors")
    (folder / f"{reference}.json").write_text(json.dumps(TEXTS, ensure_ascii=False), encoding="utf-8")
    print(f"{folder.name}: {N} questions and {N} passages by {reference} in {time.time() - start:.0f} s", flush=True)


def by_pylate(folder):
    start, model = time.time(), pylate.ColBERT(str(folder), device="cpu")
    save(folder, "pylate", {role: model.encode(TEXTS[role], is_query=role == "query", batch_size=8, show_progress_bar=False) for role in TEXTS}, start)


def by_the_original(folder):
    """colbert-ai's QueryTokenizer, DocTokenizer, ColBERT.query and ColBERT.doc, a text at a time."""
    start = time.time()
    meta = json.loads((folder / "artifact.metadata").read_text())
    tok = AutoTokenizer.from_pretrained(str(folder))
    state = load_file(folder / "model.safetensors")
    bert = BertModel(BertConfig(**json.loads((folder / "config.json").read_text())), add_pooling_layer=False).eval()
    missing, _ = bert.load_state_dict({k.removeprefix("bert."): v for k, v in state.items() if k.startswith("bert.")}, strict=False)
    assert not [name for name in missing if not name.endswith("_ids")], missing
    cls, sep, mask, pad = tok.cls_token_id, tok.sep_token_id, tok.mask_token_id, tok.pad_token_id
    skip = {i for symbol in string.punctuation for i in (symbol, tok.encode(symbol, add_special_tokens=False)[0])} if meta["mask_punctuation"] else set()

    def project(ids, attention):
        with torch.inference_mode():
            hidden = bert(torch.tensor([ids]), attention_mask=torch.tensor([attention]))[0][0]
            return torch.nn.functional.normalize(hidden @ state["linear.weight"].T, p=2, dim=1)

    def query(text):
        length = meta["query_maxlen"]
        ids = [cls, tok.convert_tokens_to_ids(meta["query_token_id"])] + tok(text, add_special_tokens=False)["input_ids"][: length - 3] + [sep]
        real = len(ids)
        ids += [mask] * (length - real)
        return project(ids, [1] * real + [int(meta["attend_to_mask_tokens"])] * (length - real))

    def document(text):
        ids = [cls, tok.convert_tokens_to_ids(meta["doc_token_id"])] + tok(text, add_special_tokens=False)["input_ids"][: meta["doc_maxlen"] - 3] + [sep]
        keep = torch.tensor([i not in skip and i != pad for i in ids])
        return project(ids, [1] * len(ids))[keep]

    save(folder, "original", {"query": [query(text) for text in TEXTS["query"]], "document": [document(text) for text in TEXTS["document"]]}, start)


if __name__ == "__main__":
    makers = {
        "pylate-bert": lambda name: with_pylate(name, BertModel(BertConfig(**BERT, num_hidden_layers=4)), word_piece()),
        "pylate-modernbert": lambda name: with_pylate(name, ModernBertModel(ModernBertConfig(**BERT, num_hidden_layers=6, **IDS)), word_piece()),
        "colbert-ai-base": lambda name: as_jacolbert(name, BertModel(BertConfig(vocab_size=VOCAB))),
    }
    for name, make in makers.items():
        if not (OUT / name).exists():
            torch.manual_seed(SEED)
            make(name)
    for name in ("trained-colbert-ai", "trained-pylate", "pylate-bert", "pylate-modernbert", "colbert-ai-base"):
        for reference, compute in (("pylate", by_pylate), ("original", by_the_original)):
            if (reference == "pylate" or "colbert-ai" in name) and not done(OUT / name, reference):
                compute(OUT / name)
