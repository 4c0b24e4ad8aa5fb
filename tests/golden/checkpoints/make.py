"""Makes small random checkpoints in each real layout, and what PyLate, Sentence Transformers and transformers compute with them. See README.md.

python make.py            everything but st-modernbert, with PyLate 1.6
python make.py st         st-modernbert, with Sentence Transformers 6.2 (another environment: PyLate 1.6 needs 5.3)
python make.py STEP       one of tokenizers, colbert-ai, mecab, pylate
python make.py tokenizers NAME       one of them
"""
import json
import os
import shutil
import string
import sys
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

torch.set_num_threads(1)
HERE = Path(__file__).resolve().parent
TEXTS = [json.loads(line)["text"] for line in open(HERE.parent / "tokenizer" / "cases.jsonl", encoding="utf-8")]
LINES = [t for t in TEXTS if 0 < len(t) < 300]
QUERIES = ["再レンダリングを減らしたい", "東京都の知事選挙は1999年4月に行われた。", "所有権とは何か?", "ﾘﾎﾟｼﾞﾄﾘ ＡＢＣ", "[MASK] is it?", "a" * 120 + " 長い" * 30, ""]
DOCUMENTS = ["所有権(ownership)は、Rustの最も独特な機能です。", "「状態」を更新すると, コンポーネントは再レンダリングされる! #React", "𠮷野家 🍣 éà ǅ", "改行\nと\tタブ　全角空白", "語" * 90, "..."]
HIDDEN, INNER, LAYERS, HEADS, DIM = 32, 48, 3, 2, 24


def widen(model, seed):
    """Wide enough that attention is far from uniform and every block changes the result."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            mean, deviation = (1.0, 0.3) if "norm" in name.lower() and name.endswith("weight") else (0.0, 0.25)
            value.copy_(torch.randn(value.shape, generator=generator) * deviation + mean)


def bert(vocab_size, seed):
    model = BertModel(BertConfig(vocab_size=vocab_size, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER, max_position_embeddings=80, attn_implementation="eager")).eval()
    widen(model, seed)
    return model


def modern_bert(vocab_size, seed):
    model = ModernBertModel(ModernBertConfig(vocab_size=vocab_size, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER, max_position_embeddings=96, local_attention=16, global_attn_every_n_layers=2, norm_bias=False, attention_bias=False, mlp_bias=False, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, attn_implementation="eager")).eval()
    widen(model, seed)
    return model


def word_piece(lower):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
    trainer = trainers.WordPieceTrainer(vocab_size=420, limit_alphabet=260, special_tokens=specials, initial_alphabet=list(string.punctuation[:20]), show_progress=False)
    tok.train_from_iterator(LINES, trainer)
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tok


def llama_unigram(prepend, split):
    """As ModernBERT-Ja has it: SentencePiece without normalisation, bytes for what is not in the vocabulary."""
    from math import log

    marked = ["▁" + t.replace(" ", "▁") for t in LINES]
    counts = Counter(t[i : i + n] for t in marked for n in (1, 2, 3) for i in range(len(t) - n + 1))
    # Only frequent characters, so that bytes are needed.
    kept = sorted(counts, key=lambda p: (-counts[p] * len(p), p))[:300]
    total = sum(counts[p] for p in kept)
    vocab = [(p, 0.0) for p in ("<pad>", "<s>", "</s>", "<unk>", "<mask>")] + [(f"<0x{b:02X}>", -20.0) for b in range(256)]
    vocab += [(p, log(counts[p] / total)) for p in kept]
    tok = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=True))
    tok.add_special_tokens([AddedToken(p, normalized=False, special=True) for p, _ in vocab[:5]])
    state = json.loads(tok.to_str())
    state["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": split}
    state["post_processor"] = json.loads(processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]).__getstate__())
    return Tokenizer.from_str(json.dumps(state))


def llama_bpe():
    """As Llama 2 has it: everything one word, spaces as marks by the normaliser, bytes for what is not in the vocabulary."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    specials = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"] + [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=620, limit_alphabet=200, special_tokens=specials, show_progress=False, max_token_length=6)
    tok.train_from_iterator(LINES, trainer)
    state = json.loads(tok.to_str())
    state["added_tokens"] = state["added_tokens"][:5]
    return Tokenizer.from_str(json.dumps(state))


def byte_bpe():
    """As ModernBERT and GPT-2 have it."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(LINES, trainer)
    tok.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False, special=True)])
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return tok


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Full-width ASCII, half-width katakana with their marks, decomposed kana, some signs and blanks: what SentencePiece's nmt_nfkc does to them, in kilobytes.
WIDE = [chr(c) for c in range(0xFF01, 0xFF5F)] + [chr(c) for c in range(0xFF61, 0xFFA0)] + list("㍑①ⅳﬁ…　\u00a0\u200b\t\n\ufeffＡ́") + ["ｶﾞ", "ﾊﾟ", "か\u3099", "は\u309a", "e\u0301"]
MORE = [text for t in WIDE for text in (t, "a" + t + "い" + t + " 1234567 it'S ")]


def split_bpe():
    """As Llama 3 and Qwen have it: cut by an expression, then bytes."""
    tok = Tokenizer(models.BPE())
    split = lambda pattern, behavior: pre_tokenizers.Split(Regex(pattern), behavior=behavior, invert=False)
    digits = LLAMA3.replace("{1,3}", "")
    parts = [split(LLAMA3, "isolated"), split(digits, "isolated"), pre_tokenizers.Split("の", behavior="merged_with_previous"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tok.pre_tokenizer = pre_tokenizers.Sequence(parts)
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|begin|>"], show_progress=False)
    tok.train_from_iterator(LINES, trainer)
    return tok


def precompiled_unigram(folder):
    """As XLM-RoBERTa has it: SentencePiece's compiled rules, runs of blanks, then marks."""
    import base64
    import unicodedata

    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as proto

    rules = {t: unicodedata.normalize("NFKC", t) for t in WIDE} | {"\t": " ", "\n": " ", "\u200b": "", "\ufeff": ""}
    points = lambda text: " ".join(f"{ord(c):04X}" for c in text)
    (folder / "rules.tsv").write_text("".join(f"{points(a)}\t{points(b)}\n" for a, b in rules.items() if a != b), encoding="utf-8")
    corpus = folder / "corpus.txt"
    often = Counter("".join(LINES))
    corpus.write_text("\n".join(t.replace("\n", " ") for t in LINES if all(often[c] > 3 for c in t)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / "spm"), vocab_size=700, hard_vocab_limit=False, character_coverage=0.98, normalization_rule_tsv=str(folder / "rules.tsv"), minloglevel=2)
    model = proto.ModelProto.FromString((folder / "spm.model").read_bytes())
    for name in ("rules.tsv", "corpus.txt", "spm.model", "spm.vocab"):
        (folder / name).unlink()
    tok = Tokenizer(models.Unigram([(p.piece, p.score) for p in model.pieces], unk_id=0))
    state = json.loads(tok.to_str())
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    state["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": charsmap}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]}
    return Tokenizer.from_str(json.dumps(state))


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def tokens(folder, encode, skip=lambda text: False, more=()):
    """The ids of every text, without markers."""
    rows = [{"text": text, "ids": encode(text)} for text in [*TEXTS[::3], *QUERIES, *DOCUMENTS, *more] if not skip(text)]
    with open(folder / "tokens.jsonl", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def golden(folder, encode, ids):
    tensors, cases = {}, {"query": [], "document": []}
    for role, texts in (("query", QUERIES), ("document", DOCUMENTS)):
        for i, text in enumerate(texts):
            tensors[f"{role}.{i}"] = torch.tensor(encode(text, role == "query")).float().contiguous()
            cases[role].append({"text": text, "ids": ids(text, role == "query")})
    save_file(tensors, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def tidy(folder):
    for path in folder.rglob("README.md"):
        path.unlink()


def pylate_golden(folder, checkpoint):
    from pylate import models as pylate

    model = pylate.ColBERT(str(checkpoint), device="cpu")
    golden(
        folder,
        lambda text, query: model.encode([text], is_query=query, batch_size=1, show_progress_bar=False)[0],
        lambda text, query: model.tokenize([text], is_query=query)["input_ids"][0].tolist(),
    )
    return model


def with_pylate(name, network, tok, *, half=False, dense=(), **settings):
    from pylate import models as pylate

    folder, plain = fresh(name), HERE / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    network.save_pretrained(plain)
    tok.save_pretrained(plain)
    torch.manual_seed(5)
    model = pylate.ColBERT(str(plain), device="cpu", embedding_size=DIM, **settings)
    for layer in dense:
        model.append(layer)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for value in list(model.parameters())[len(list(network.parameters())):]:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    if half:
        model.half()
    model.save(str(folder))
    shutil.rmtree(plain)
    tidy(folder)
    pylate_golden(folder, folder)
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    tokens(folder, lambda text: fast(text, add_special_tokens=False)["input_ids"])


def wrapped(tok, pad, unk, cls, sep, mask):
    return PreTrainedTokenizerFast(tokenizer_object=tok, pad_token=pad, unk_token=unk, cls_token=cls, sep_token=sep, mask_token=mask, model_max_length=96)


BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_pylate():
    from pylate.models import Dense

    tok = wrapped(word_piece(lower=True), *BERT_SPECIALS)
    with_pylate("pylate-bert", bert(len(tok), 1), tok, query_length=24, document_length=64)
    tok = wrapped(llama_unigram("first", False), "<pad>", "<unk>", "<s>", "</s>", "<mask>")
    with_pylate("pylate-modernbert", modern_bert(len(tok), 2), tok, half=True, dense=[Dense(DIM, DIM, bias=True, use_residual=True, activation_function=torch.nn.Tanh()), Dense(DIM, 16, bias=False, use_residual=True, activation_function=torch.nn.GELU())],
                query_length=40, document_length=90, attend_to_expansion_tokens=True, skiplist_words=["、", "。", "▁", "語語語"], query_prefix="[Q] ", document_prefix="[D] ")


def write_stanford(folder, network, metadata, vocab, config):
    """What colbert-ai saves: one file of `bert.*` and `linear.weight`, pickled here as older checkpoints are."""
    linear = torch.nn.Linear(HIDDEN, DIM, bias=False)
    widen(linear, 11)
    state = {f"bert.{name}": value for name, value in network.state_dict().items()} | {"linear.weight": linear.weight.detach()}
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(network.config.to_dict() | {"architectures": ["HF_ColBERT"]}, indent=1) + "\n")
    (folder / "artifact.metadata").write_text(json.dumps(metadata, indent=1) + "\n")
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], BERT_SPECIALS)), indent=1) + "\n")


METADATA = dict(query_token_id="[unused0]", doc_token_id="[unused1]", query_token="質問s", doc_token="文書", query_maxlen=28, doc_maxlen=70, dim=DIM, similarity="cosine", interaction="colbert", attend_to_mask_tokens=False, mask_punctuation=True, cap_padding=0)


def make_stanford():
    folder = fresh("colbert-ai-bert")
    vocab = word_piece(lower=False).get_vocab()
    vocab = sorted(vocab, key=vocab.get)
    write_stanford(folder, bert(len(vocab), 3), METADATA, vocab, {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "tokenize_chinese_chars": True, "strip_accents": None, "model_max_length": 80})
    model = pylate_golden(folder, folder)
    tokens(folder, lambda text: model.tokenizer(text, add_special_tokens=False)["input_ids"])


def make_mecab():
    """JaColBERT's tokenizer: MeCab with unidic-lite, then WordPiece."""
    import fugashi
    import unidic_lite

    folder = fresh("colbert-ai-mecab")
    tagger = fugashi.GenericTagger(f"-r /dev/null -d {unidic_lite.DICDIR}")
    import unicodedata

    words = [w.surface for text in LINES for w in tagger(unicodedata.normalize("NFKC", text))]
    counted = sorted({c for w in words for c in w}, key=lambda c: (-sum(w.count(c) for w in words), c))[:220]
    whole = sorted(set(words), key=lambda w: (-words.count(w), w))[:90]
    vocab = list(BERT_SPECIALS[:1]) + ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", ""] + list(string.punctuation)
    vocab += [c for c in dict.fromkeys(counted + whole) if c not in vocab and not c.isspace()]
    vocab += ["##" + c for c in counted[:120] if not c.isspace()]
    config = {"tokenizer_class": "BertJapaneseTokenizer", "do_lower_case": False, "do_word_tokenize": True, "do_subword_tokenize": True, "word_tokenizer_type": "mecab", "subword_tokenizer_type": "wordpiece", "mecab_kwargs": {"mecab_dic": "unidic_lite"}, "never_split": None, "model_max_length": 80}
    write_stanford(folder, bert(len(vocab), 4), METADATA | {"query_maxlen": 32}, vocab, config)
    model = pylate_golden(folder, folder)
    tokens(folder, lambda text: model.tokenizer(text, add_special_tokens=False)["input_ids"])


def make_tokenizers():
    for name, tok in [("split-bpe", split_bpe()), ("precompiled-unigram", precompiled_unigram), ("llama-bpe", llama_bpe()), ("llama-unigram", llama_unigram("always", True)), ("word-piece-cased", word_piece(lower=False))]:
        if len(sys.argv) > 2 and sys.argv[2] != name:
            continue
        folder = fresh(f"tokenizers/{name}") if (HERE / "tokenizers").mkdir(exist_ok=True) is None else None
        tok = tok(folder) if callable(tok) else tok
        tok.save(str(folder / "tokenizer.json"))
        tokens(folder, lambda text: tok.encode(text, add_special_tokens=False).ids, more=MORE if name in ("split-bpe", "precompiled-unigram") else ())
    if len(sys.argv) > 2:
        return
    # SentencePiece's own file, as transformers converts it.
    import sentencepiece
    from transformers import LlamaTokenizer

    for kind in ("unigram", "bpe"):
        folder = fresh(f"tokenizers/spm-{kind}")
        corpus = folder / "corpus.txt"
        often = Counter("".join(LINES))
        common = [t for t in LINES if all(often[c] > 3 for c in t)]
        corpus.write_text("\n".join(t.replace("\n", " ") for t in common), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / "tokenizer"), vocab_size=1000, model_type=kind, byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=(kind == "bpe"), minloglevel=2)
        corpus.unlink()
        (folder / "tokenizer.vocab").unlink()
        os.replace(folder / "tokenizer.model", folder / "tokenizer.model.tmp")
        os.replace(folder / "tokenizer.model.tmp", folder / "tokenizer.model")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": True}, indent=1) + "\n")
        if kind == "bpe":
            tok = LlamaTokenizer.from_pretrained(folder)
            tokens(folder, lambda text: tok(text, add_special_tokens=False)["input_ids"])
        else:
            # transformers 5 reads every file as BPE. Where transformers 4, which models were trained with, and SentencePiece differ, the text is left out:
            # a blank at the beginning gets no further one, and names of pieces that no text contains for SentencePiece are found.
            tok = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
            tokens(folder, tok.encode, skip=lambda text: text.startswith((" ", "▁")) or "<unk>" in text)


def make_st():
    """Sentence Transformers 6: prompts as text, query expansion in the Transformer, skip list in a module."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Transformer

    folder, plain = fresh("st-modernbert"), HERE / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    tok = wrapped(byte_bpe(), *BERT_SPECIALS)
    tok.add_tokens([AddedToken("[Q] ", normalized=False, special=True), AddedToken("[D] ", normalized=False, special=True)], special_tokens=True)
    network = modern_bert(len(tok) + 3, 6)
    network.save_pretrained(plain)
    tok.save_pretrained(plain)
    transformer = Transformer(str(plain), document_length=60, query_expansion={"strategy": "min", "length": 20, "attend": False, "token": "[MASK]"}, query_length=48, model_kwargs={"attn_implementation": "eager"})
    dense = Dense(HIDDEN, DIM, bias=True, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    widen(dense, 12)
    mask = MultiVectorMask(skiplist_words=list(string.punctuation) + ["語語語"], skiplist_tasks=["document"])
    model = MultiVectorEncoder(modules=[transformer, dense, mask, Normalize(module_input_name="token_embeddings")], prompts={"query": "[Q] ", "document": "[D] "}, device="cpu")
    model.save(str(folder))
    shutil.rmtree(plain)
    tidy(folder)
    model = MultiVectorEncoder(str(folder), device="cpu")
    encode = {True: model.encode_query, False: model.encode_document}
    prompt = {True: "[Q] ", False: "[D] "}
    golden(
        folder,
        lambda text, query: encode[query]([text], batch_size=1, show_progress_bar=False, convert_to_numpy=True)[0],
        lambda text, query: model.preprocess([prompt[query] + text], task="query" if query else "document")["input_ids"][0].tolist(),
    )
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    tokens(folder, lambda text: fast(text, add_special_tokens=False)["input_ids"])


if __name__ == "__main__":
    import transformers

    what = sys.argv[1] if len(sys.argv) > 1 else "all"
    torch.manual_seed(0)
    steps = {"tokenizers": make_tokenizers, "colbert-ai": make_stanford, "mecab": make_mecab, "pylate": make_pylate, "st": make_st}
    for name in [what] if what in steps else [name for name in steps if name != "st"]:
        steps[name]()
    print(sys.version.split()[0], "torch", torch.__version__, "transformers", transformers.__version__)
