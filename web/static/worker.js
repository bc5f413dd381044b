// Keeps the page for when there is no server: a service worker, which the browser runs
// between the page and the network. loader.js registers it once the client is ready, in
// secure contexts only, so that no first visit waits for it.
//
// The server puts one line before this text, const BUILD = {version, files}: what tells
// its build from others, and the addresses of the files that its page asks for.
//
// Kept is one build: the page as this browser gets it, and these files, whose
// addresses change with their bytes. Nothing that a reader typed is: a question stands
// in the address's #…, and the page is kept as "/". All else (/ws, /v1, /api, uploads,
// metrics, whatever is no GET) goes its way as if there were no worker.
//
// The page is the server's as long as one answers, so that no build hides a newer one;
// its files come from the cache. Another build is another worker: the browser looks for
// it at every visit, and the new one deletes what the old one kept.
//
// To be rid of it, a server answers its address with 404, or with nothing, or with
// anything that is no script, as another program at this address would do: at the next
// visit the worker deletes what it kept and ends its registration. The browser would not
// do that by itself.
(() => {
  "use strict";
  const { version, files } = BUILD;
  const name = "nrt-" + version;
  const ours = async () => (await caches.keys()).filter((key) => key.startsWith("nrt-"));
  const kept = (address) => caches.match(address, { cacheName: name, ignoreVary: true });

  const keep = async () => {
    const page = await fetch("/", { cache: "no-store" });
    const text = await page.clone().text();
    // A server that was replaced meanwhile sends the page of another build.
    if (!page.ok || !files.every((f) => text.includes(f))) throw new Error("this is not the page of build " + version);
    const cache = await caches.open(name);
    await cache.put("/", page);
    await cache.addAll(files); // from the browser's own cache, as a rule
  };

  const clean = async () => {
    for (const key of await ours()) if (key !== name) await caches.delete(key);
    // Firefox shows its own error page when a preloaded page finds no server, whatever the
    // worker answers. Earlier builds had switched it on, which lasts.
    await registration.navigationPreload?.disable();
  };

  const retire = async () => {
    const answer = await fetch(location.pathname, { cache: "no-cache" }).catch(() => null);
    if (!answer || answer.status >= 500) return; // the server is in trouble
    const script = answer.ok && /javascript/.test(answer.headers.get("Content-Type"));
    if (script && (await answer.text()).trim() !== "") return;
    for (const key of await ours()) await caches.delete(key);
    await registration.unregister();
  };

  const page = async (event) => {
    let answer;
    try {
      answer = await fetch(event.request);
    } catch {
      // no server
    }
    const away = !answer || [502, 503, 504].includes(answer.status); // a proxy says so
    if (!away) event.waitUntil(retire());
    return (away && (await kept("/"))) || answer || Response.error();
  };

  addEventListener("install", (event) => {
    skipWaiting();
    event.waitUntil(keep());
  });
  addEventListener("activate", (event) => event.waitUntil(clean()));
  addEventListener("fetch", (event) => {
    const { method, mode, url } = event.request;
    const { origin, pathname, search } = new URL(url);
    if (method !== "GET" || origin !== location.origin) return;
    if (mode === "navigate" && pathname === "/") return event.respondWith(page(event));
    if (!files.includes(pathname + search)) return;
    event.respondWith(kept(pathname + search).then((answer) => answer ?? fetch(event.request)));
  });
})();
