"""The same scored lists in every layout that is imported. Needs pyarrow."""
import json, pathlib, shutil
import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
queries = {"11": "京都 の 寺", "12": "東京 の 塔", "13": "古い 駅", "14": "庭 と 歴史"}
documents = {str(100 + i): t for i, t in enumerate([
    "寺 は 京都 に ある", "塔 は 東京 に ある", "駅 の 歴史", "庭 の 石", "古い 町 の 地図", "川 と 橋"])}
lists = [("11", ["100", "101", "103", "105"], [3.5, -1.25, 0.5, -4.0]),
         ("12", ["101", "100", "102", "104"], [2.75, 0.25, -0.5, -2.0]),
         ("13", ["102", "104", "105", "103"], [1.5, 1.25, -3.0, -3.5]),
         ("14", ["103", "102", "100", "101"], [4.0, 2.0, 0.125, -0.75])]

for path in here.iterdir():
    if path.is_dir():
        shutil.rmtree(path)


def folder(name):
    (here / name).mkdir(parents=True)
    return here / name


def jsonl(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def table(path, **columns):
    pq.write_table(pa.table(columns), path, compression="snappy")


out = folder("pylate-jsonl")
jsonl(out / "queries.jsonl", [{"query_id": q, "text": t} for q, t in queries.items()])
jsonl(out / "documents.jsonl", [{"document_id": d, "text": t} for d, t in documents.items()])
jsonl(out / "train.jsonl", [{"query_id": q, "document_ids": d, "scores": s} for q, d, s in lists])

for name, strings in [("pylate-parquet", False), ("pylate-parquet-strings", True)]:
    out = folder(name)
    for part in ["queries", "documents", "train"]:
        (out / part).mkdir()
    table(out / "queries/train-00000-of-00001.parquet", query_id=[int(q) for q in queries], text=list(queries.values()))
    ids = list(documents)
    for i in range(2):
        mine = ids[i::2]
        table(out / f"documents/train-{i:05}-of-00002.parquet", document_id=mine, text=[documents[d] for d in mine])
    table(out / "train/train-00000-of-00001.parquet", query_id=[int(q) for q, _, _ in lists],
          document_ids=[str(d) if strings else d for _, d, _ in lists],
          scores=[str(s) if strings else s for _, _, s in lists])

out = folder("mmarco")
(out / "queries.tsv").write_text("".join(f"{q}\t{t}\n" for q, t in queries.items()))
(out / "collection.tsv").write_text("".join(f"{d}\t{t}\n" for d, t in documents.items()))
jsonl(out / "triples.jsonl", [[int(q)] + [[int(d), x] for d, x in zip(ds, s)] for q, ds, s in lists])

for name in ["mmarco-lists", "mmarco-pairs"]:
    out = folder(name)
    for i in range(2):
        mine = lists[2 * i:2 * i + 2]
        path = out / f"part-{i:05}-of-00002.parquet"
        ids = [int(q) for q, _, _ in mine]
        if name == "mmarco-lists":
            table(path, query_id=pa.array(ids, pa.int64()),
                  document_ids=pa.array([[int(d) for d in ds] for _, ds, _ in mine], pa.list_(pa.int64())),
                  scores=pa.array([s for _, _, s in mine], pa.list_(pa.float32())))
        else:
            table(path, query_id=pa.array(ids, pa.int64()),
                  passages=pa.array([[[float(d), x] for d, x in zip(ds, s)] for _, ds, s in mine],
                                    pa.list_(pa.list_(pa.float64()))))

pq.write_table(pa.table({"query": [queries[q] for q, _, _ in lists],
                         "documents": [[documents[d] for d in ds] for _, ds, _ in lists],
                         "scores": pa.array([s for _, _, s in lists], pa.list_(pa.float16()))}),
               here / "inline.parquet", compression="zstd")
