// Prints the size of each file: raw, gzip, brotli.
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

const kb = (n) => `${(n / 1024).toFixed(1)} kB`.padStart(10);
for (const path of process.argv.slice(2)) {
  const bytes = readFileSync(path);
  const name = relative(process.cwd(), path).padEnd(36);
  console.log(`${name} raw ${kb(bytes.length)}  gz ${kb(gzipSync(bytes).length)}  br ${kb(brotliCompressSync(bytes).length)}`);
}
