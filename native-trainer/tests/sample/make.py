"""Cuts the sample out of JaQuAD's training part: python make.py <jaquad/train>"""
import gzip, json, pathlib, sys

source, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
rows = lambda name: [json.loads(l) for l in gzip.open(source / name, "rt", encoding="utf-8")]
passages, queries = rows("passages.jsonl.gz"), rows("queries.jsonl.gz")
qrels = [l.rstrip("\n").split("\t") for l in gzip.open(source / "qrels.tsv.gz", "rt", encoding="utf-8")]
asked = {}
for q, p, grade in qrels:
    if float(grade) > 0:
        asked.setdefault(p, []).append(q)
text = {q["id"]: q["text"] for q in queries}
titles = list(dict.fromkeys(p["title"] for p in passages))
take = lambda titles, n: [p for t in titles for p in [p for p in passages if p["title"] == t and p["id"] in asked and len(p["text"]) < 500][:n]]
dump = lambda path, rows: path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
for name, part in [("train", take(titles[:10], 6)), ("dev", take(titles[10:16], 5))]:
    folder = here / name
    folder.mkdir(exist_ok=True)
    dump(folder / "passages.jsonl", [dict(id=p["id"], title=p["title"], text=p["text"]) for p in part])
    picked = [(q, p["id"]) for p in part for q in asked[p["id"]][:3]]
    dump(folder / "queries.jsonl", [dict(id=q, text=text[q]) for q, _ in picked])
    (folder / "qrels.tsv").write_text("".join(f"{q}\t{p}\t1\n" for q, p in picked), encoding="utf-8")
part = take(titles[16:24], 5)
dump(here / "sections.jsonl", [dict(id=p["id"], title=p["title"], text=p["text"]) for p in part])
(here / "pairs").mkdir(exist_ok=True)
(here / "pairs/pairs.tsv").write_text("".join(f"title\t{p['title']}\t{p['id']}\n" for p in part), encoding="utf-8")
