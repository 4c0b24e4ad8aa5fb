"""Makes bert.safetensors: a small random BERT and what transformers computes with it. See README.md."""
import json
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

torch.manual_seed(20261121)
torch.set_num_threads(1)
HIDDEN, INNER, LAYERS, HEADS, VOCAB, POSITIONS, TYPES, EPS, DIM = 48, 96, 2, 3, 61, 48, 2, 1e-12, 32
MASK, N_REAL, N_EXPANDED = 4, 11, 40

config = BertConfig(
    vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INNER,
    max_position_embeddings=POSITIONS, type_vocab_size=TYPES, layer_norm_eps=EPS, hidden_act="gelu",
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
)
model = BertModel(config, add_pooling_layer=False).eval().float()
with torch.no_grad():
    for name, value in model.named_parameters():
        # Wide enough that attention is far from uniform and every bias, position and type changes the result.
        value.normal_(1.0, 0.3) if "LayerNorm.weight" in name else value.normal_(0.0, 0.25)
dense = torch.randn(DIM, HIDDEN) * 0.2

tensors = {name: value.detach().clone() for name, value in model.named_parameters()}
tensors |= {"dense.0.weight": dense}


def encode(ids, n_attended):
    mask = torch.zeros(1, len(ids), dtype=torch.long)
    mask[:, :n_attended] = 1
    with torch.no_grad():
        hidden = model(input_ids=ids[None], attention_mask=mask).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden @ dense.T, dim=-1)


inputs = {}
for n in (1, 5, 40):
    ids = torch.randint(0, VOCAB, (n,))
    inputs[n] = ids.tolist()
    tensors[f"golden.{n}.document"] = encode(ids, n)
# JaColBERT's query: augmentation that looks at the real tokens and is looked at by nobody.
expanded = torch.cat([torch.randint(0, VOCAB, (N_REAL,)), torch.full((N_EXPANDED - N_REAL,), MASK)])
tensors["golden.expanded.document"] = encode(expanded, N_REAL)
print("attending to the augmentation would give cosine",
      torch.nn.functional.cosine_similarity(tensors["golden.expanded.document"], encode(expanded, N_EXPANDED)).min().item())
save_file({k: v.contiguous() for k, v in tensors.items()}, "bert.safetensors")
json.dump({
    "encoder": {
        "architecture": "bert", "vocab_size": VOCAB, "hidden_size": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS,
        "intermediate_size": INNER, "norm_eps": EPS, "max_positions": POSITIONS, "type_vocab_size": TYPES,
    },
    "projection": {"dense": [{"in_features": HIDDEN, "out_features": DIM}]},
    "inputs": inputs,
    "expanded": {"ids": expanded.tolist(), "n_attended": N_REAL},
}, open("bert.json", "w"), indent=1)
print(sys.version.split()[0], torch.__version__, transformers.__version__)
