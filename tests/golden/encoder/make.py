"""Makes golden.safetensors: a small random ModernBERT and what transformers computes with it. See README.md."""
import json
import sys

import torch
from safetensors.torch import save_file
from transformers import ModernBertConfig, ModernBertModel

torch.manual_seed(20261120)
torch.set_num_threads(1)
SIZE = dict(vocab_size=61, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
WINDOW, EVERY, THETA_GLOBAL, THETA_LOCAL, EPS, DIM = 8, 2, 160000.0, 10000.0, 1e-5, 32

config = ModernBertConfig(
    **SIZE,
    local_attention=WINDOW,
    layer_types=["full_attention" if i % EVERY == 0 else "sliding_attention" for i in range(SIZE["num_hidden_layers"])],
    rope_parameters={
        "full_attention": {"rope_type": "default", "rope_theta": THETA_GLOBAL},
        "sliding_attention": {"rope_type": "default", "rope_theta": THETA_LOCAL},
    },
    norm_eps=EPS,
    norm_bias=False,
    attention_bias=False,
    mlp_bias=False,
    hidden_activation="gelu",
    max_position_embeddings=64,
    pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    attn_implementation="eager",
)
model = ModernBertModel(config).eval().float()
with torch.no_grad():
    for name, value in model.named_parameters():
        # Wide enough that attention is far from uniform and every block changes the result.
        value.normal_(1.0, 0.3) if "norm" in name else value.normal_(0.0, 0.2)
dense = torch.randn(DIM, SIZE["hidden_size"]) * 0.2
query_weight, query_bias = torch.randn(1, SIZE["hidden_size"]) * 0.2, torch.tensor([0.3])

tensors = {name: value.detach().clone() for name, value in model.named_parameters()}
tensors |= {"dense.0.weight": dense, "query_weight.weight": query_weight, "query_weight.bias": query_bias}
inputs = {}
for n in (1, 5, 40):
    ids = torch.randint(0, SIZE["vocab_size"], (n,))
    with torch.no_grad():
        hidden = model(input_ids=ids[None], attention_mask=torch.ones(1, n, dtype=torch.long)).last_hidden_state[0]
        document = torch.nn.functional.normalize(hidden @ dense.T, dim=-1)
        query = document * torch.nn.functional.softplus(hidden @ query_weight.T + query_bias)
    inputs[n] = ids.tolist()
    tensors |= {f"golden.{n}.document": document, f"golden.{n}.query": query}
    if n == 40:
        # The window must matter: without it the result has to be another one.
        for layer in range(1, SIZE["num_hidden_layers"], EVERY):
            print("reach of block", layer, getattr(model.layers[layer].attn, "sliding_window", "?"), getattr(config, "sliding_window", "?"))
save_file({k: v.contiguous() for k, v in tensors.items()}, "golden.safetensors")
json.dump({
    "encoder": {
        "architecture": "modern_bert", "vocab_size": SIZE["vocab_size"], "hidden_size": SIZE["hidden_size"],
        "n_layers": SIZE["num_hidden_layers"], "n_heads": SIZE["num_attention_heads"], "intermediate_size": SIZE["intermediate_size"],
        "norm_eps": EPS, "max_positions": 64, "global_attention_every": EVERY, "local_window": WINDOW,
        "rope_theta_global": THETA_GLOBAL, "rope_theta_local": THETA_LOCAL,
    },
    "projection": {"dense": [{"in_features": SIZE["hidden_size"], "out_features": DIM}], "query_weight": True},
    "inputs": inputs,
}, open("golden.json", "w"), indent=1)
import transformers
print(sys.version.split()[0], torch.__version__, transformers.__version__)
