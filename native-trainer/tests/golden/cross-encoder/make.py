"""Small random BERT and XLM-RoBERTa cross-encoders with the scores that transformers gives them."""
import json, pathlib, torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (BertConfig, BertForSequenceClassification, XLMRobertaConfig,
                          XLMRobertaForSequenceClassification)

here = pathlib.Path(__file__).parent
torch.manual_seed(20261120)
words = ["京都", "の", "寺", "駅", "東京", "塔", "は", "どこ", "庭", "歴史"]
pairs = [("京都 の 寺 は どこ", "寺 の 歴史"), ("東京 の 塔", "京都 の 駅 の 庭 の 歴史"), ("駅", "駅 は 東京 の 寺")]
shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, num_labels=1,
             hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.4)
for name, specials, model in [
    ("bert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], lambda n: BertForSequenceClassification(
        BertConfig(vocab_size=n, max_position_embeddings=24, type_vocab_size=2, **shape))),
    ("xlm-roberta", ["<s>", "<pad>", "</s>", "<unk>"], lambda n: XLMRobertaForSequenceClassification(
        XLMRobertaConfig(vocab_size=n, max_position_embeddings=26, type_vocab_size=1, pad_token_id=1, bos_token_id=0,
                         eos_token_id=2, layer_norm_eps=1e-5, **shape))),
]:
    vocab = {w: i for i, w in enumerate(specials + words)}
    bert = name == "bert"
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]" if bert else "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1" if bert else "<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0",
        special_tokens=[(s, vocab[s]) for s in (["[CLS]", "[SEP]"] if bert else ["<s>", "</s>"])])
    net = model(len(vocab)).eval()
    with torch.no_grad():
        for key, p in net.named_parameters():  # norms and biases are otherwise ones and zeros, which hide mistakes
            if key.endswith("bias") or "LayerNorm" in key:
                p.add_(torch.randn_like(p) * 0.2)
    cases = []
    for query, document in pairs:
        e = tokenizer.encode(query, document)
        with torch.no_grad():
            out = net(input_ids=torch.tensor([e.ids]), token_type_ids=torch.tensor([e.type_ids]),
                      attention_mask=torch.ones(1, len(e.ids), dtype=torch.long)).logits
        cases.append(dict(query=query, document=document, ids=e.ids, segments=e.type_ids, score=out.item()))
    folder = here / name
    net.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
