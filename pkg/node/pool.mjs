// Worker threads that take tasks in turn.
import { Worker } from "node:worker_threads";

export class Pool {
  #idle = [];
  #waiting = [];
  #running = new Map();
  #workers;
  #next = 0;
  #broken;

  constructor(size, shirube) {
    this.#workers = Array.from({ length: size }, () => {
      const worker = new Worker(new URL("./worker.mjs", import.meta.url), { workerData: { shirube } });
      worker.on("message", ({ id, error, ...answer }) => {
        const { resolve, reject } = this.#running.get(id);
        this.#running.delete(id);
        if (error === undefined) resolve(answer);
        else reject(new Error(error));
        this.#idle.push(worker);
        this.#start();
      });
      worker.on("error", (error) => this.#break(error));
      return worker;
    });
    this.#idle.push(...this.#workers);
  }

  /** Runs one task on the next free thread. */
  run(task) {
    return new Promise((resolve, reject) => {
      if (this.#broken) return reject(this.#broken);
      this.#waiting.push({ task, resolve, reject });
      this.#start();
    });
  }

  /** Runs all tasks of an iterator; `done(answer)` is called in their order. At most two tasks a thread are under way or wait for an earlier one. */
  async ordered(tasks, done) {
    const flying = [];
    const fill = () => {
      while (flying.length < this.#workers.length * 2) {
        const { value, done: over } = tasks.next();
        if (over) return;
        const answer = this.run(value);
        answer.catch(() => {}); // Reported where it is awaited; a later one may fail first.
        flying.push(answer);
      }
    };
    fill();
    while (flying.length > 0) {
      done(await flying.shift());
      fill();
    }
  }

  close() {
    return Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #break(error) {
    this.#broken = error;
    for (const { reject } of [...this.#running.values(), ...this.#waiting]) reject(error);
    this.#running.clear();
    this.#waiting = [];
  }

  #start() {
    while (this.#idle.length > 0 && this.#waiting.length > 0) {
      const { task, resolve, reject } = this.#waiting.shift();
      const id = this.#next++;
      this.#running.set(id, { resolve, reject });
      this.#idle.pop().postMessage({ id, ...task });
    }
  }
}
