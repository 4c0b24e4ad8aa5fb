#!/usr/bin/env node
// `npx shirube`: the command line of the package. Its flags are those of the native command, by the same definition.
import { build, readSettings, sourceState } from "./build.mjs";
import { inspect, search } from "./search.mjs";
import { serve } from "./serve.mjs";
import { wasm } from "./wasm.mjs";

/** How often a watched source is looked at. */
const WATCH_EVERY = 500;

/** A progress line on the terminal; nothing where output is not one. */
function meter(quiet) {
  if (quiet || !process.stderr.isTTY) return { show() {}, end() {} };
  let shown = { stage: "", start: 0, last: 0 };
  return {
    show: ({ stage, done, of }) => {
      const now = Date.now();
      if (shown.stage !== stage) shown = { stage, start: now, last: 0 };
      if (now - shown.last < 100 && done < of) return;
      shown.last = now;
      const filled = Math.round((32 * done) / Math.max(of, 1));
      const seconds = (now - shown.start) / 1000;
      const left = done > 0 ? ` ${Math.round((seconds / done) * (of - done))}s` : "";
      process.stderr.write(`\r\x1b[K${stage.padEnd(12)} ${"█".repeat(filled)}${"░".repeat(32 - filled)} ${done.toLocaleString("en")}/${of.toLocaleString("en")}${left}`);
    },
    end: () => process.stderr.write("\r\x1b[K"),
  };
}

function complain(error) {
  const because = error.cause instanceof Error && !error.message.includes(error.cause.message) ? `  because: ${error.cause.message}\n` : "";
  process.stderr.write(`${error.report ?? ""}error: ${error.message}\n${because}`);
}

async function once(settings, { how: { codec, fresh, dryRun, limit }, threads, assets, pwa, singleFile, quiet }) {
  const line = meter(quiet);
  try {
    const { text } = await build(settings, { progress: line.show, assets, pwa, singleFile, codec, fresh, dryRun, limit: limit ?? undefined, threads: threads ?? undefined });
    line.end();
    process.stdout.write(text);
  } catch (error) {
    line.end();
    throw error;
  }
}

const pause = () => new Promise((resolve) => setTimeout(resolve, WATCH_EVERY));

async function watch(settings, asked) {
  for (let seen = await sourceState(settings); ; ) {
    await pause();
    const now = await sourceState(settings);
    if (now === seen) continue;
    // Two equal looks after a change: a generator that is still writing is left to finish.
    await pause();
    if ((await sourceState(settings)) !== now) continue;
    seen = now;
    // A page that is broken for a moment must not end the watch.
    await once(settings, asked).catch(complain);
  }
}

async function announce(folder, port) {
  const { url } = await serve(folder, port);
  console.log(`${folder} at ${url}   (Ctrl+C ends)`);
}

async function main() {
  const asked = JSON.parse(wasm().command(process.argv.slice(2)));
  if (asked.command === "say") {
    (asked.code === 0 ? process.stdout : process.stderr).write(asked.text);
    process.exitCode = asked.code;
  } else if (asked.command === "serve") {
    await announce(asked.folder, asked.port);
  } else if (asked.command === "search") {
    await search(asked.flags);
  } else if (asked.command === "inspect") {
    inspect(asked.flags);
  } else {
    const settings = await readSettings(asked.settings, asked.config ?? undefined);
    await once(settings, asked);
    if (asked.serve !== null) await announce(settings.source, asked.serve);
    if (asked.watch) await watch(settings, asked);
  }
}

process.stdout.on("error", (error) => process.exit(error.code === "EPIPE" ? 0 : 1));
try {
  await main();
} catch (error) {
  complain(error);
  process.exitCode = 1;
}
