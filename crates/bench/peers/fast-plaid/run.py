"""run.py search QUERIES INDEX: for each line `n_ivf_probe n_full_scores` answers all queries."""

import json
import sys
import time

import numpy
import torch
from fast_plaid import search


def read(path):
    raw = numpy.fromfile(path, dtype=numpy.uint8)
    dim, n = raw[:8].view("<u4")
    lengths = raw[8 : 8 + 4 * n].view("<u4")
    values = torch.from_numpy(raw[8 + 4 * n :].view("<f4").reshape(-1, dim))
    return list(torch.split(values, lengths.tolist()))


def main():
    torch.set_num_threads(1)
    queries = read(sys.argv[2])
    index = search.FastPlaid(index=sys.argv[3], device="cpu")
    for line in sys.stdin:
        n_probe, n_full_scores = map(int, line.split())
        times, hits = [], []
        for query in queries:
            start = time.perf_counter()
            found = index.search(
                queries_embeddings=query[None],
                top_k=10,
                n_full_scores=n_full_scores,
                n_ivf_probe=n_probe,
                show_progress=False,
            )
            times.append((time.perf_counter() - start) * 1e3)
            hits.append([document for document, _ in found[0]])
        print(json.dumps({"ms": times, "hits": hits}), flush=True)


if __name__ == "__main__":
    main()
