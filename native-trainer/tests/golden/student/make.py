"""Small random BERT and ModernBERT ColBERTs in PyLate's layout, with the hidden states of transformers and the embeddings of PyLate.

Needs torch, transformers and pylate. Weights are stored in f32; norms and biases are moved off one and zero, which would hide mistakes."""
import json, pathlib, shutil
import torch
from pylate import models
from tokenizers import Tokenizer, models as pieces, pre_tokenizers, processors
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

here = pathlib.Path(__file__).parent
torch.manual_seed(20261120)
specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
words = ["京都", "の", "寺", "駅", "東京", "塔", "は", "どこ", "庭", "歴史", "古い", "町", "地図", "川", "橋", "、", "。", "."]
queries = ["京都 の 寺 は どこ", "駅", "古い 町 の 地図 は どこ 。"]
documents = ["寺 の 歴史 。 京都 の 古い 寺 、 庭 .", "東京 の 塔", " ".join(words * 2)]
vocab = {w: i for i, w in enumerate(specials + words)}
shape = dict(vocab_size=len(vocab), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24)


def tokenizer():
    t = Tokenizer(pieces.WordLevel(vocab, unk_token="[UNK]"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(s, vocab[s]) for s in ["[CLS]", "[SEP]"]])
    return PreTrainedTokenizerFast(tokenizer_object=t, **{f"{n}_token": f"[{n.upper()}]" for n in ["pad", "unk", "cls", "sep", "mask"]})


def shaken(net):
    with torch.no_grad():
        for key, p in net.named_parameters():
            if key.endswith("bias") or "norm" in key.lower():
                p.add_(torch.randn_like(p) * 0.2)
    return net.eval()


nets = {
    "bert": lambda: BertModel(BertConfig(max_position_embeddings=48, type_vocab_size=2, initializer_range=0.4,
                                         hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **shape),
                              add_pooling_layer=False),
    "modern-bert": lambda: ModernBertModel(ModernBertConfig(
        max_position_embeddings=64, global_attn_every_n_layers=2, local_attention=24, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, cls_token_id=2, sep_token_id=3, initializer_range=0.4, attn_implementation="eager", **shape)),
}
for name, make in nets.items():
    plain, folder = here / "plain", here / name
    shutil.rmtree(folder, ignore_errors=True)
    net = shaken(make())
    net.save_pretrained(plain)
    tokenizer().save_pretrained(plain)
    torch.manual_seed(7)
    colbert = models.ColBERT(model_name_or_path=str(plain), embedding_size=8, query_length=16, document_length=40,
                             attend_to_expansion_tokens=False, skiplist_words=[".", "、"], device="cpu",
                             model_kwargs={"attn_implementation": "eager"})
    shutil.rmtree(plain)
    colbert.save(str(folder))
    cases = []
    for texts, is_query in [(queries, True), (documents, False)]:
        # One by one, so that no document is padded. A query's mask tokens lie within the local window of its last token: where a token sees
        # nothing at all, transformers gives it the mean of everything, padding included, and the browser's kernels give it nothing.
        for text in texts:
            features = colbert.tokenize([text], is_query=is_query)
            with torch.no_grad():
                hidden = colbert[0](dict(features))["token_embeddings"][0]
            embeddings = colbert.encode([text], is_query=is_query, convert_to_numpy=True)[0]
            ids = features["input_ids"][0].tolist()
            cases.append(dict(role="query" if is_query else "document", text=text, ids=ids,
                              n_attended=int(features["attention_mask"][0].sum()),
                              hidden=[round(v, 6) for v in hidden.flatten().tolist()] if text in (queries[0], documents[2]) else [],
                              embeddings=[round(float(v), 6) for v in embeddings.flatten().tolist()]))
    (folder / "cases.json").write_text("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in {"config.json", "model.safetensors", "modules.json", "cases.json",
                                                "config_sentence_transformers.json"}:
            path.unlink()
