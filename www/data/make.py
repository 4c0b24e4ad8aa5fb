#!/usr/bin/env python3
"""Makes sections.jsonl.gz, the demo's text, from a larger set of documentation sections.

    python3 www/data/make.py ../shared/data/docs/sections.jsonl.gz

The input has one JSON object a line: id, source, page, title, headings, anchor, text. The output keeps the pages chosen below, in their order,
adds the address of each section, and leaves out code blocks and sections of less than 40 characters. The same input gives the same bytes.
"""

import gzip
import json
import pathlib
import sys
from urllib.parse import quote

# Per source: which pages are kept (by the start of their path) and where the page stands on the web.
REACT = ["memo", "useMemo", "useCallback", "useDeferredValue", "useTransition"]
VUE = ["introduction", "essentials", "components", "reusability", "built-ins", "best-practices", "extras"]
TYPESCRIPT = ["values-types-variables", "functions", "asynchronous", "generics"]
SOURCES = {
    "react": (["learn"] + ["reference/react/" + p for p in REACT], "https://ja.react.dev/{page}"),
    "vue": (["guide/" + p for p in VUE], "https://ja.vuejs.org/{page}.html"),
    "typescript-book": (["reference/" + p for p in TYPESCRIPT], "https://typescriptbook.jp/{page}"),
    "rust-book": (["ch03", "ch04", "ch09", "ch10", "ch15"], "https://doc.rust-jp.rs/book-ja/{page}.html"),
}
FIELDS = ["id", "source", "page", "url", "title", "headings", "anchor", "text"]
SHORTEST = 40


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    kept = {source: [] for source in SOURCES}
    with gzip.open(sys.argv[1], "rt", encoding="utf-8") as lines:
        for line in lines:
            section = json.loads(line)
            prefixes, address = SOURCES.get(section["source"], ([], ""))
            if not section["page"].startswith(tuple(prefixes)) or len(section["text"]) < SHORTEST:
                continue
            url = address.format(page=quote(section["page"]))
            if section["anchor"]:
                url += "#" + quote(section["anchor"])
            section["url"] = url
            kept[section["source"]].append({field: section[field] for field in FIELDS})
    rows = [json.dumps(section, ensure_ascii=False) for sections in kept.values() for section in sections]
    out = pathlib.Path(__file__).with_name("sections.jsonl.gz")
    # A fixed time stamp and no file name: equal content gives an equal file.
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(("\n".join(rows) + "\n").encode())
    for source, sections in kept.items():
        print(f"{source:16} {len(sections):5} sections {sum(len(s['text']) for s in sections):8} characters")
    print(f"{'all':16} {len(rows):5} sections {out.stat().st_size:8} bytes")


if __name__ == "__main__":
    main()
