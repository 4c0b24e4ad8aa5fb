"""One side of `npm run bench -- train`: a distillation step of PyLate on one thread, or on a GPU.

Started as `pylate_step.py FOLDER [cpu|cuda]`. FOLDER/task.json says the shape and the batches. Writes FOLDER/model.safetensors (random weights, named as
Hugging Face's ModernBERT names them, with the projection as dense.0.weight) and FOLDER/gradients.safetensors (of the first batch), then takes
one optimiser step for each line on standard input, which names a batch, and answers with one line of JSON.

PyLate's own ColBERT and Distillation are used: scaled-dot-product attention, batches padded to their longest text, KL on min-max normalised
student scores. The optimiser is PyTorch's fused AdamW, its fastest.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from pylate import losses, models
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast


def make_model(folder: Path, shape: dict, device: str) -> models.ColBERT:
    """A ColBERT over a ModernBERT with random weights; texts are never tokenised, so the tokenizer is a dummy of the right size."""
    torch.manual_seed(1)
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "[Q] ": 5, "[D] ": 6}
    vocab |= {f"t{i}": i for i in range(len(vocab), shape["vocab_size"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocab, unk_token="[UNK]")),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    rope = lambda theta: {"rope_type": "default", "rope_theta": theta}
    config = ModernBertConfig(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"],
        num_hidden_layers=shape["n_layers"],
        num_attention_heads=shape["n_heads"],
        norm_eps=shape["norm_eps"],
        global_attn_every_n_layers=shape["global_attention_every"],
        local_attention=shape["local_window"],
        rope_parameters={
            "full_attention": rope(shape["rope_theta_global"]),
            "sliding_attention": rope(shape["rope_theta_local"]),
        },
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        attn_implementation="sdpa",
    )
    source = folder / "modernbert"
    ModernBertModel(config).save_pretrained(source)
    tokenizer.save_pretrained(source)
    model = models.ColBERT(
        model_name_or_path=str(source),
        embedding_size=shape["dim"],
        query_prefix="[Q] ",
        document_prefix="[D] ",
        do_query_expansion=False,
        skiplist_words=[],
        device=device,
    )
    # A small initial deviation leaves most scores equal; the gradients are compared, so they should not be rounding noise.
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2:
                p.normal_(0.0, 1.0 if "embeddings" in name else 1.4 / p.shape[1] ** 0.5)
    assert len(model.tokenizer) == shape["vocab_size"] == model[0].auto_model.embeddings.tok_embeddings.weight.shape[0]
    return model


def ours(name: str) -> str:
    """Our name of a parameter of PyLate's model."""
    return name.removeprefix("0.auto_model.").replace("1.linear.weight", "dense.0.weight")


def features(texts: list[list[int]], device: str) -> dict[str, torch.Tensor]:
    longest = max(map(len, texts))
    ids = torch.zeros((len(texts), longest), dtype=torch.long)
    mask = torch.zeros((len(texts), longest), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def main() -> None:
    folder = Path(sys.argv[1])
    device = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    task = json.loads((folder / "task.json").read_text())
    model = make_model(folder, task["shape"], device)
    model.train()
    named = {ours(name): p for name, p in model.named_parameters()}
    save_file({name: p.detach().cpu().contiguous() for name, p in named.items()}, folder / "model.safetensors")
    loss_of = losses.Distillation(model=model)
    batches = {
        name: (
            [features(b["queries"], device), features(b["documents"], device)],
            torch.tensor(b["scores"], dtype=torch.float32, device=device),
            sum(map(len, b["queries"])) + sum(map(len, b["documents"])),
        )
        for name, b in task["batches"].items()
    }

    texts, scores, _ = batches[next(iter(batches))]
    loss_of([dict(t) for t in texts], scores).backward()
    save_file({name: p.grad.cpu().contiguous() for name, p in named.items()}, folder / "gradients.safetensors")
    model.zero_grad(set_to_none=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)

    versions = {"torch": torch.__version__, "pylate": __import__("importlib.metadata").metadata.version("pylate")}
    print(json.dumps({"ready": versions}), flush=True)
    for line in sys.stdin:
        texts, scores, n_tokens = batches[line.strip()]
        wall, cpu = time.perf_counter(), time.process_time()
        loss = loss_of([dict(t) for t in texts], scores)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        value = loss.item()
        answer = {
            "loss": value,
            "tokens": n_tokens,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
            "device_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        }
        print(json.dumps(answer), flush=True)


main()
