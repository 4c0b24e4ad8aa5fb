// `shirube serve`: a folder over HTTP on this machine, to try a site before it is published.
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, sep } from "node:path";

/** Ports tried after the first one where that is taken. */
const PORTS = 20;

const TYPES = {
  html: "text/html; charset=utf-8", htm: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8",
  mjs: "text/javascript; charset=utf-8", json: "application/json; charset=utf-8", svg: "image/svg+xml", png: "image/png", jpg: "image/jpeg",
  jpeg: "image/jpeg", webp: "image/webp", woff2: "font/woff2", wasm: "application/wasm", txt: "text/plain; charset=utf-8", md: "text/plain; charset=utf-8",
};

/** The file that an address means: as it stands, as a folder's `index.html`, or with `.html` added. None outside the folder. */
async function find(folder, target) {
  let path;
  try {
    path = decodeURIComponent(target.split(/[?#]/)[0]);
  } catch {
    return undefined;
  }
  if (path.includes("\0") || path.split(/[\\/]/).includes("..")) return undefined;
  const plain = join(folder, path);
  for (const candidate of [plain, join(plain, "index.html"), `${plain}.html`]) {
    const found = await stat(candidate).catch(() => undefined);
    if (!found?.isFile()) continue;
    // Links may not lead out of the folder either.
    const real = await realpath(candidate);
    return real.startsWith(folder + sep) ? { path: real, bytes: found.size } : undefined;
  }
  return undefined;
}

/** Serves `folder` on loopback at `port` or a little above it; 0 is any. Resolves to `{ url, close }`. */
export async function serve(folder, port = 8080) {
  const root = await realpath(folder);
  const server = createServer(async (request, response) => {
    const head = { "cache-control": "no-cache", "x-content-type-options": "nosniff" };
    const plain = (status, text) => response.writeHead(status, { ...head, "content-type": "text/plain; charset=utf-8" }).end(text);
    if (request.method !== "GET" && request.method !== "HEAD") return plain(405, "405: only GET and HEAD\n");
    const found = await find(root, request.url ?? "/").catch(() => undefined);
    if (!found) return plain(404, "404: no such file\n");
    const type = TYPES[extname(found.path).slice(1).toLowerCase()] ?? "application/octet-stream";
    response.writeHead(200, { ...head, "content-type": type, "content-length": found.bytes });
    if (request.method === "HEAD") return response.end();
    createReadStream(found.path).on("error", () => response.destroy()).pipe(response);
  });
  for (let at = port; ; at += 1) {
    try {
      await new Promise((resolve, reject) => server.once("error", reject).listen(at, "127.0.0.1", resolve));
      break;
    } catch (error) {
      if (error.code !== "EADDRINUSE" || at >= port + PORTS) throw error;
    }
  }
  const close = () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
  return { url: `http://localhost:${server.address().port}/`, close };
}
