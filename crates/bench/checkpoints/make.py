"""Checkpoints for `npm run bench -- checkpoints`, with what PyLate computes for them.

python make.py DATA OUT [--quick]     DATA: folder with jsquad/valid; OUT: folder to write

Three random networks in real layouts, initialised as `transformers` does: PyLate with BERT (4 x 256) and ModernBERT (6 x 256), and a BERT-base (12 x 768,
vocabulary of 32,768) as colbert-ai saves it. Texts are questions and passages of jsquad/valid.
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
import torch
from pylate import models as pylate
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as subword
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

DATA, OUT = Path(sys.argv[1]), Path(sys.argv[2])
QUICK = "--quick" in sys.argv
DIM, VOCAB = 128, 32_768
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
torch.manual_seed(20261120)


def read(name):
    with gzip.open(DATA / "jsquad" / "valid" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


QUERIES, PASSAGES = read("queries"), read("passages")
random.Random(1).shuffle(QUERIES)
random.Random(2).shuffle(PASSAGES)


def word_piece():
    tok = Tokenizer(subword.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(PASSAGES, trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=SPECIALS, initial_alphabet=list(string.punctuation), show_progress=False))
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tok


def golden(folder, n):
    model = pylate.ColBERT(str(folder), device="cpu")
    tensors, cases = {}, {"query": [], "document": []}
    for role, texts in (("query", QUERIES[:n]), ("document", PASSAGES[:n])):
        start = time.time()
        found = model.encode(texts, is_query=role == "query", batch_size=8, show_progress_bar=False)
        print(f"{folder.name}: {n} texts as {role} in {time.time() - start:.0f} s", flush=True)
        for i, (text, rows) in enumerate(zip(texts, found)):
            tensors[f"{role}.{i}"] = torch.tensor(rows).float().contiguous()
            cases[role].append({"text": text})
    save_file(tensors, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(cases, ensure_ascii=False), encoding="utf-8")


def with_pylate(name, network, tok, n):
    folder, plain = OUT / name, OUT / "plain"
    shutil.rmtree(folder, ignore_errors=True)
    network.save_pretrained(plain)
    PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]").save_pretrained(plain)
    pylate.ColBERT(str(plain), device="cpu", embedding_size=DIM).save(str(folder))
    shutil.rmtree(plain)
    golden(folder, n)


def stanford(name, network, tok, n):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    state = {f"bert.{k}": v.contiguous() for k, v in network.state_dict().items() if v.is_floating_point()}
    save_file(state | {"linear.weight": torch.nn.Linear(network.config.hidden_size, DIM, bias=False).weight.detach()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(network.config.to_dict() | {"architectures": ["HF_ColBERT"]}))
    metadata = dict(query_token_id="[unused0]", doc_token_id="[unused1]", query_maxlen=32, doc_maxlen=300, dim=DIM, similarity="cosine", attend_to_mask_tokens=False, mask_punctuation=True)
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    vocab = tok.get_vocab()
    lines = sorted(vocab, key=vocab.get)
    lines += [f"[filler{i}]" for i in range(VOCAB - len(lines))]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False, "tokenize_chinese_chars": False}))
    golden(folder, n)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    tok = word_piece()
    shape = dict(vocab_size=VOCAB, hidden_size=256, num_attention_heads=4, intermediate_size=512)
    n = 40 if QUICK else 200
    with_pylate("pylate-bert", BertModel(BertConfig(**shape, num_hidden_layers=4)), tok, n)
    special = dict(pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3)
    with_pylate("pylate-modernbert", ModernBertModel(ModernBertConfig(**shape, num_hidden_layers=6, **special)), tok, n)
    stanford("colbert-ai-base", BertModel(BertConfig(vocab_size=VOCAB)), tok, 8 if QUICK else 24)
