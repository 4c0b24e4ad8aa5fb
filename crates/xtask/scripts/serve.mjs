// A small static server for loopback: right types, no caching surprises, compression. Tests give a hook to damage answers.
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";
import { createGzip } from "node:zlib";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".wasm": "application/wasm",
};
const COMPRESSED = new Set([".html", ".css", ".js", ".mjs", ".json", ".svg", ".wasm"]);

/**
 * Serves `folder`. `hook(path, request, response)` may answer itself and return true. Without `ranges` a range is answered by the whole file.
 * Resolves to `{ url, close }`; tries the ports after `port` when it is taken; 0 is any.
 */
export async function serve(folder, { port = 0, hook, ranges = true } = {}) {
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    if (hook && (await hook(path, request, response))) return;
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405).end();
      return;
    }
    const file = normalize(join(folder, path.endsWith("/") ? `${path}index.html` : path));
    let stat;
    try {
      if (!file.startsWith(folder + sep)) throw new Error("outside the folder");
      stat = statSync(file);
      if (!stat.isFile()) throw new Error("not a file");
    } catch {
      response.writeHead(404, { "content-type": "text/plain; charset=utf-8" }).end("404: no such file\n");
      return;
    }
    const type = extname(file);
    const tag = `"${stat.size.toString(36)}-${Math.trunc(stat.mtimeMs).toString(36)}"`;
    const headers = {
      "content-type": TYPES[type] ?? "application/octet-stream",
      "cache-control": "no-cache",
      etag: tag,
      "x-content-type-options": "nosniff",
    };
    if (request.headers["if-none-match"] === tag) {
      response.writeHead(304, headers).end();
      return;
    }
    const asked = ranges && !COMPRESSED.has(type) ? /^bytes=(\d+)-(\d+)$/.exec(String(request.headers.range ?? "")) : null;
    const [start, end] = asked ? [Number(asked[1]), Math.min(Number(asked[2]), stat.size - 1)] : [0, -1];
    if (asked && start <= end) {
      const range = { "content-range": `bytes ${start}-${end}/${stat.size}`, "content-length": end - start + 1 };
      response.writeHead(206, { ...headers, ...range });
      createReadStream(file, { start, end }).on("error", () => response.destroy()).pipe(response);
      return;
    }
    const zip = COMPRESSED.has(type) && /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""));
    response.writeHead(200, zip ? { ...headers, "content-encoding": "gzip", vary: "accept-encoding" } : { ...headers, "content-length": stat.size });
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const stream = createReadStream(file);
    stream.on("error", () => response.destroy());
    (zip ? stream.pipe(createGzip({ level: 5 })) : stream).pipe(response);
  });
  for (let attempt = 0; ; attempt++) {
    try {
      await new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port === 0 ? 0 : port + attempt, "127.0.0.1", resolve);
      });
      break;
    } catch (error) {
      if (error.code !== "EADDRINUSE" || attempt >= 20) throw error;
    }
  }
  const close = () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections()));
  return { url: `http://localhost:${server.address().port}/`, close };
}
