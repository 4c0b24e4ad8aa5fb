/** The Web Worker: messages in, one operation at a time, messages out. */

import { aborted, toPlain } from "./errors.js";
import { Host } from "./host.js";
import type { Request, Response } from "./protocol.js";

const host = new Host();
const waiting: Exclude<Request, { op: "abort" }>[] = [];
const controllers = new Map<number, AbortController>();
let running = false;

// The page's lib has `window`; here the global is the worker's.
const scope = self as unknown as {
  postMessage(message: Response, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<Request>) => void) | null;
};

scope.onmessage = ({ data }) => {
  if (data.op === "abort") {
    controllers.get(data.id)?.abort();
    return;
  }
  if (data.op === "search" && !data.queue) {
    // The newest query wins: one that has not begun would only be thrown away by the search box.
    for (const old of waiting) {
      if (old.op === "search" && !old.queue) controllers.get(old.id)?.abort("a newer query took its place");
    }
  }
  controllers.set(data.id, new AbortController());
  if (["arrived", "meaning", "keep", "settle"].includes(data.op)) {
    // Not in the queue: searches go on while files come.
    void answer(data);
    return;
  }
  waiting.push(data);
  if (!running) schedule();
};

// Through a message of its own, so that messages already in the worker's queue are seen before the next operation begins.
const turn = new MessageChannel();
turn.port1.onmessage = () => void next();
function schedule(): void {
  running = true;
  turn.port2.postMessage(null);
}

async function next(): Promise<void> {
  const request = waiting.shift();
  if (!request) {
    running = false;
    return;
  }
  await answer(request);
  schedule();
}

async function answer(request: Exclude<Request, { op: "abort" }>): Promise<void> {
  const controller = controllers.get(request.id) ?? new AbortController();
  try {
    if (controller.signal.aborted) {
      const { reason } = controller.signal;
      throw typeof reason === "string" ? aborted(reason) : aborted();
    }
    const ok = await host.run(request, controller.signal, (progress) => scope.postMessage({ id: request.id, progress }));
    scope.postMessage({ id: request.id, ok }, "data" in ok ? [ok.data.buffer] : []);
  } catch (error) {
    scope.postMessage({ id: request.id, error: toPlain(error) });
  }
  controllers.delete(request.id);
}

scope.postMessage({ hello: true });
