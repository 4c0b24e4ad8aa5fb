// How shards are fetched from the hosts there are: with and without ranges, compressing on the fly, slow, broken, lying. A real server on loopback and
// the package's own fetching code; no browser is needed, because nothing is shown.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { root } from "../../crates/xtask/scripts/lib.mjs";

let Assets;
let folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "shirube-hosts-"));
  const outfile = join(folder, "assets.mjs");
  await build({ absWorkingDir: root, entryPoints: ["pkg/src/assets.ts"], outfile, bundle: true, format: "esm", platform: "neutral", logLevel: "warning" });
  ({ Assets } = await import(pathToFileURL(outfile).href));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Shards of four blocks of 1000 bytes each, as a large bundle has them: name is the start of the SHA-256. */
const SHARDS = new Map(
  Array.from({ length: 12 }, (_, i) => {
    const bytes = Buffer.alloc(4000);
    for (let at = 0; at < bytes.length; at++) bytes[at] = (at * 31 + i * 7 + (at >> 8)) & 255;
    return [`codes/${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}.bin`, bytes];
  }),
);
const PATHS = [...SHARDS.keys()];
const need = (path, block) => ({ path, start: 1000 * block, end: 1000 * (block + 1), fileBytes: 4000 });

/** What the engine does with bytes: refuses what is not as the directories say. */
function engine() {
  const held = new Map();
  const damaged = (message) => Object.assign(new Error(message), { code: "ASSET_DAMAGED", message, cure: "" });
  const accept = (path, start, bytes) => {
    if (Buffer.from(bytes).subarray(0, 9).toString() === "<!doctype") throw Object.assign(new Error("page"), { code: "ASSET_IS_HTML", message: "page", cure: "" });
    const whole = SHARDS.get(path);
    const expected = whole.subarray(start, start + bytes.length);
    if (bytes.length === 0 || !expected.equals(Buffer.from(bytes))) throw damaged(`${path} from ${start}: other bytes`);
    if (bytes.length % 1000 !== 0 || start % 1000 !== 0) throw damaged(`${path} from ${start}: no whole block in ${bytes.length} bytes`);
    for (let at = start; at < start + bytes.length; at += 1000) held.set(`${path}#${at / 1000}`, true);
  };
  return { held, accept };
}

/**
 * A host on loopback. `answer(path, request, response, send)` may answer itself and return true; `send` is the host's own way.
 */
async function host({ ranges = true, gzip = false, answer } = {}, action) {
  const log = [];
  const server = createServer(async (request, response) => {
    const path = request.url.slice(1);
    log.push({ path, range: request.headers.range });
    const send = () => {
      const bytes = SHARDS.get(path);
      if (!bytes) return response.writeHead(404, { "content-type": "text/html" }).end("<!doctype html>404");
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
      // As hosts that compress do: an identity range where one is asked for without compression, else the whole, compressed.
      if (ranges && range) {
        const part = bytes.subarray(Number(range[1]), Number(range[2]) + 1);
        return response.writeHead(206, { "content-range": `bytes ${range[1]}-${range[2]}/${bytes.length}`, "content-length": part.length }).end(part);
      }
      if (gzip && /gzip/.test(request.headers["accept-encoding"] ?? "")) {
        const packed = gzipSync(bytes);
        return response.writeHead(200, { "content-encoding": "gzip", "content-length": packed.length }).end(packed);
      }
      return response.writeHead(200, { "content-length": bytes.length }).end(bytes);
    };
    if (!(await answer?.({ path, request, response, send, n: log.filter((entry) => entry.path === path).length }))) send();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}/`;
  const signal = new AbortController().signal;
  const assets = new Assets(false, signal, () => {});
  try {
    await action({ url, log, assets, signal, ...engine() });
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

const code = (promise) => promise.then(() => "none", (error) => error.code ?? String(error));

test("a host with ranges sends the blocks that are asked for and no more", async () => {
  await host({}, async ({ url, log, assets, signal, held, accept }) => {
    await assets.shards(url, [need(PATHS[0], 1), need(PATHS[1], 3)], accept, signal);
    assert.deepEqual([...held.keys()].sort(), [`${PATHS[0]}#1`, `${PATHS[1]}#3`].sort());
    assert.deepEqual(new Set(log.map(({ range }) => range)), new Set(["bytes=1000-1999", "bytes=3000-3999"]));
  });
});

for (const gzip of [false, true]) {
  test(`a host without ranges${gzip ? ", compressing on the fly," : ""} sends whole shards, and is not asked for ranges again`, async () => {
    await host({ ranges: false, gzip }, async ({ url, log, assets, signal, held, accept }) => {
      await assets.shards(url, [need(PATHS[0], 1)], accept, signal);
      assert.equal(held.size, 4, "the other blocks came along");
      await assets.shards(url, [need(PATHS[1], 0), need(PATHS[2], 2)], accept, signal);
      assert.equal(held.size, 12);
      assert.deepEqual(log.map(({ range }) => range !== undefined), [true, false, false]);
    });
  });
}

test("a host that compresses and knows ranges sends ranges of the file itself", async () => {
  await host({ gzip: true }, async ({ url, assets, signal, held, accept }) => {
    await assets.shards(url, [need(PATHS[0], 2)], accept, signal);
    assert.deepEqual([...held.keys()], [`${PATHS[0]}#2`]);
  });
});

test("a range of another place or length is refused, and the whole file is fetched instead", async () => {
  const lies = [
    ({ response }) => response.writeHead(206, { "content-range": "bytes 0-999/4000" }).end(SHARDS.get(PATHS[0]).subarray(0, 1000)),
    ({ response }) => response.writeHead(206).end(SHARDS.get(PATHS[0]).subarray(1000, 1700)),
    // A proxy that cuts the range out of the compressed file.
    ({ response }) => response.writeHead(206).end(gzipSync(SHARDS.get(PATHS[0])).subarray(0, 1000)),
  ];
  for (const lie of lies) {
    const answer = (call) => (call.request.headers.range ? (lie(call), true) : false);
    await host({ answer }, async ({ url, log, assets, signal, held, accept }) => {
      await assets.shards(url, [need(PATHS[0], 1)], accept, signal);
      assert.equal(held.size, 4);
      assert.deepEqual(log.map(({ range }) => range !== undefined), [true, false]);
    });
  }
});

test("many shards arrive in any order, and the slowest ends the wait", async () => {
  const answer = async ({ path, send }) => {
    await new Promise((resolve) => setTimeout(resolve, 20 * ((PATHS.length - PATHS.indexOf(path)) % 5)));
    send();
    return true;
  };
  await host({ answer }, async ({ url, assets, signal, held, accept }) => {
    await assets.shards(url, PATHS.map((path) => need(path, 0)), accept, signal);
    assert.equal(held.size, PATHS.length);
  });
});

test("a slow host is waited for, byte by byte", async () => {
  const answer = async ({ path, request, response }) => {
    const [, start, end] = /bytes=(\d+)-(\d+)/.exec(request.headers.range);
    const part = SHARDS.get(path).subarray(Number(start), Number(end) + 1);
    response.writeHead(206, { "content-length": part.length });
    for (let at = 0; at < part.length; at += 100) {
      response.write(part.subarray(at, at + 100));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    response.end();
    return true;
  };
  await host({ answer }, async ({ url, assets, signal, held, accept }) => {
    await assets.shards(url, [need(PATHS[0], 0)], accept, signal);
    assert.equal(held.size, 1);
  });
});

test("a connection that breaks in the middle is tried once more, and then named", async () => {
  for (const [breaks, expected] of [[1, "none"], [9, "NETWORK"]]) {
    const answer = ({ n, response, path }) => {
      if (n > breaks) return false;
      response.writeHead(200, { "content-length": 4000 });
      response.write(SHARDS.get(path).subarray(0, 1500), () => response.destroy());
      return true;
    };
    await host({ answer }, async ({ url, assets, signal, accept }) => {
      assert.equal(await code(assets.shards(url, [need(PATHS[0], 0)], accept, signal)), expected);
    });
  }
});

test("an answer that was cut without saying so is tried once more, and then refused", async () => {
  for (const [cuts, expected] of [[1, "none"], [9, "ASSET_DAMAGED"]]) {
    const answer = ({ n, response, path }) => (n > cuts ? false : (response.writeHead(200).end(SHARDS.get(path).subarray(0, 1500)), true));
    await host({ answer }, async ({ url, assets, signal, held, accept }) => {
      assert.equal(await code(assets.shards(url, [need(PATHS[0], 0)], accept, signal)), expected);
      assert.equal(held.size > 0, expected === "none");
    });
  }
});

test("a page with status 200, a missing file and a failing server have their codes", async () => {
  const cases = [
    [({ response }) => response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><p>ようこそ"), "ASSET_IS_HTML"],
    [({ response }) => response.writeHead(404).end("gone"), "ASSET_MISSING"],
    [({ response }) => response.writeHead(500).end("oops"), "NETWORK"],
    [({ response }) => response.writeHead(503, { "retry-after": "1" }).end(), "NETWORK"],
    [({ response }) => response.writeHead(429).end(), "NETWORK"],
    // Nobody asked with a condition, so nothing was "not modified".
    [({ response }) => response.writeHead(304).end(), "ASSET_MISSING"],
  ];
  for (const [way, expected] of cases) {
    await host({ answer: (call) => (way(call), true) }, async ({ url, assets, signal, held, accept }) => {
      assert.equal(await code(assets.shards(url, [need(PATHS[0], 1)], accept, signal)), expected);
      assert.equal(held.size, 0, "nothing of it is kept");
    });
  }
});

test("a server that fails once is asked again", async () => {
  const answer = ({ n, response }) => (n === 1 ? (response.writeHead(500).end(), true) : false);
  await host({ answer }, async ({ url, assets, signal, held, accept }) => {
    await assets.shards(url, [need(PATHS[0], 1)], accept, signal);
    assert.ok(held.has(`${PATHS[0]}#1`));
  });
});

test("a server that does not like ranges is asked for the whole file", async () => {
  const answer = ({ request, response }) => (request.headers.range ? (response.writeHead(416).end(), true) : false);
  await host({ answer }, async ({ url, assets, signal, held, accept }) => {
    await assets.shards(url, [need(PATHS[0], 1)], accept, signal);
    assert.equal(held.size, 4);
  });
});

test("one failing shard ends the search and the other downloads", async () => {
  const answer = async ({ path, response, send }) => {
    if (path === PATHS[0]) response.writeHead(404).end();
    else setTimeout(send, 400);
    return true;
  };
  await host({ answer }, async ({ url, assets, signal, held, accept }) => {
    const start = Date.now();
    assert.equal(await code(assets.shards(url, PATHS.slice(0, 4).map((path) => need(path, 0)), accept, signal)), "ASSET_MISSING");
    await new Promise((resolve) => setTimeout(resolve, 600 - Math.min(500, Date.now() - start)));
    assert.equal(held.size, 0, "what came too late was not taken");
  });
});

test("a search that is given up stops its downloads", async () => {
  let open = 0;
  const answer = ({ response }) => {
    open++;
    response.on("close", () => open--);
    response.writeHead(200, { "content-length": 4000 });
    response.write(Buffer.alloc(10));
    return true;
  };
  await host({ answer }, async ({ url, assets, held, accept }) => {
    const controller = new AbortController();
    const search = code(assets.shards(url, PATHS.slice(0, 3).map((path) => need(path, 0)), accept, controller.signal));
    while (open < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort();
    assert.equal(await search, "ABORTED");
    while (open > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(held.size, 0);
  });
});
