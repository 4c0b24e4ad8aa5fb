// Keeps the page itself for visits without a network. Model and bundle are kept by the package, which checks every byte first.
// FILES and VERSION are filled in by scripts/build.mjs.

const NAME = `shirube-page-${VERSION}`;

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(NAME)
      .then((cache) => cache.addAll(FILES))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter((name) => name.startsWith("shirube-page-") && name !== NAME).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const scope = new URL(self.registration.scope);
  if (event.request.method !== "GET" || url.origin !== scope.origin) return;
  const path = url.pathname.startsWith(scope.pathname) ? url.pathname.slice(scope.pathname.length) : undefined;
  const page = event.request.mode === "navigate" && (path === "" || path === "index.html");
  if (!page && !FILES.includes(`./${path}`)) return;
  // The network first, so that nobody sees an old page while there is a new one.
  event.respondWith(
    fetch(event.request).catch(async (error) => {
      const stored = await (await caches.open(NAME)).match(page ? "./index.html" : `./${path}`);
      if (stored) return stored;
      throw error;
    }),
  );
});
