/** The two places the engine can run in, behind one interface. */

import { ShirubeError, aborted, toShirubeError } from "./errors.js";
import type { Call, Request, Response, Results } from "./protocol.js";
import type { ProgressEvent } from "./types.js";

/** Where calls are answered. */
export interface Thread {
  readonly kind: "worker" | "main";
  call<C extends Call>(call: C, signal: AbortSignal | undefined, report?: (event: ProgressEvent) => void): Promise<Results[C["op"]]>;
  dispose(): void;
}

/** A worker script that has not said hello by then never will. */
const START_LIMIT_MS = 10_000;

/** How long a worker that is not needed any more may go on to store what it fetched. */
const STORE_LIMIT_MS = 1000;

interface Waiting {
  resolve(value: never): void;
  reject(error: ShirubeError): void;
  report: ((event: ProgressEvent) => void) | undefined;
}

/** A running worker, or `WORKER_FAILED`. */
export async function startWorker(url: URL | undefined): Promise<Thread> {
  const failed = (why: string) =>
    new ShirubeError("WORKER_FAILED", why, "Allow the worker in the page's CSP (worker-src), or load with worker: false.");
  let worker: Worker;
  try {
    worker = url
      ? new Worker(url, { type: "module" })
      : // Bundlers recognise exactly this form and carry worker.js along.
        new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  } catch (error) {
    throw failed(error instanceof Error ? error.message : String(error));
  }
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(failed(`the worker did not start within ${START_LIMIT_MS / 1000} s`)), START_LIMIT_MS);
      worker.onmessage = () => {
        clearTimeout(timer);
        resolve();
      };
      worker.onerror = (event) => {
        event.preventDefault();
        clearTimeout(timer);
        reject(failed(event.message || "the worker's script could not be loaded"));
      };
    });
  } catch (error) {
    worker.terminate();
    throw error;
  }

  const waiting = new Map<number, Waiting>();
  let counter = 0;
  let dead: ShirubeError | undefined;
  const end = (error: ShirubeError) => {
    dead = error;
    worker.terminate();
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  worker.onerror = (event) => {
    event.preventDefault();
    end(failed(event.message || "the worker stopped"));
  };
  worker.onmessage = ({ data }: MessageEvent<Response>) => {
    if ("hello" in data) return;
    const entry = waiting.get(data.id);
    if (!entry) return;
    if ("progress" in data) {
      entry.report?.(data.progress);
      return;
    }
    waiting.delete(data.id);
    if ("ok" in data) entry.resolve(data.ok as never);
    else entry.reject(toShirubeError(data.error));
  };
  return {
    kind: "worker",
    call(call, signal, report) {
      return new Promise((resolve, reject) => {
        if (dead) return reject(dead);
        if (signal?.aborted) return reject(aborted());
        const id = ++counter;
        const onAbort = () => {
          waiting.delete(id);
          worker.postMessage({ id, op: "abort" } satisfies Request);
          reject(aborted());
        };
        signal?.addEventListener("abort", onAbort, { once: true });
        const settled = () => signal?.removeEventListener("abort", onAbort);
        waiting.set(id, {
          resolve: (value) => (settled(), resolve(value)),
          reject: (error) => (settled(), reject(error)),
          report,
        });
        worker.postMessage({ ...call, id } as Request);
      });
    },
    dispose() {
      if (dead) return;
      dead = aborted("dispose() was called");
      for (const { reject } of waiting.values()) reject(dead);
      waiting.clear();
      const id = ++counter;
      const stop = () => worker.terminate();
      worker.onmessage = ({ data }: MessageEvent<Response>) => {
        if (!("hello" in data) && data.id === id && !("progress" in data)) stop();
      };
      worker.postMessage({ id, op: "settle" } satisfies Request);
      setTimeout(stop, STORE_LIMIT_MS);
    },
  };
}

/** The page's own thread. */
export async function startMain(): Promise<Thread> {
  const { Host } = await import("./host.js");
  const host = new Host();
  const disposed = new AbortController();
  let newest = 0;
  return {
    kind: "main",
    async call(call, signal, report) {
      const all = signal ? AbortSignal.any([signal, disposed.signal]) : disposed.signal;
      const mine = call.op === "search" && !call.queue ? ++newest : 0;
      // Lets the page paint and newer calls arrive before the thread is busy.
      await new Promise((resolve) => setTimeout(resolve));
      if (all.aborted) throw aborted();
      if (mine && mine !== newest) throw aborted("a newer query took its place");
      return (await host.run(call, all, report ?? (() => {}))) as never;
    },
    dispose() {
      disposed.abort();
      host.dispose();
    },
  };
}
