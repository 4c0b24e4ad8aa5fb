// A thread of the build: reads pages, encodes passages. Asked by `{id, kind, …}`, answers `{id, …}` or `{id, error}`.
import { parentPort, workerData } from "node:worker_threads";
import { encodeBatch, pageReader } from "./tasks.mjs";
import { openModel } from "./wasm.mjs";

const { settings, model } = workerData.shirube;
let read;
let encoder;

const tasks = {
  read({ source, paths }) {
    read ??= pageReader(settings, source);
    return { outcomes: paths.map((path) => [path, read(path)]) };
  },
  encode({ batch }) {
    encoder ??= openModel(model).encoder;
    return encodeBatch(encoder, batch);
  },
};

parentPort.on("message", ({ id, kind, ...task }) => {
  try {
    const answer = tasks[kind](task);
    parentPort.postMessage({ id, ...answer }, answer.embeddings ? [answer.embeddings.buffer] : []);
  } catch (error) {
    parentPort.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
});
