// Fetches and starts the WebAssembly client, and says how far it is in real
// bytes. If that fails, the page stays as the server rendered it.
(() => {
  "use strict";
  const me = document.currentScript;
  const size = Number(me.dataset.size);
  const badge = () => document.getElementById("badge");
  const notes = () => document.getElementById("notes");
  const megabytes = (n) => (n / 1e6).toFixed(2);
  let ready = false;

  const mark = (kind, text) => {
    const b = badge();
    if (ready || !b) return;
    b.className = "badge " + kind;
    b.replaceChildren(document.createElement("i"), text);
  };

  const failed = (why) => {
    mark("off", "Example");
    document.documentElement.dataset.client = "failed";
    const note = document.createElement("div");
    note.className = "note warn";
    note.setAttribute("role", "status");
    const text = document.createElement("div");
    const head = document.createElement("b");
    head.textContent = "The controls did not load.";
    text.append(head, " This page stays readable; the figures are from the saved example. " + why);
    const acts = document.createElement("div");
    acts.className = "acts";
    const again = document.createElement("button");
    again.type = "button";
    again.className = "btn";
    again.textContent = "Retry";
    again.addEventListener("click", () => {
      note.remove();
      start();
    });
    acts.append(again);
    note.append(text, acts);
    notes()?.replaceChildren(note);
  };

  // worker.js keeps the page for when there is no server. It comes when all else has,
  // and the browser has time; in a context that is not secure there is none.
  const idle = window.requestIdleCallback ?? setTimeout;
  const keep = () => idle(() => navigator.serviceWorker?.register("/worker.js", { updateViaCache: "none" }).catch(() => {}));

  // The client says that it is ready by setting data-client on the root; only
  // then do the controls wake up.
  const acts = document.querySelectorAll("#page :is([data-act], [data-change]):not([disabled])");
  for (const e of acts) e.setAttribute("aria-disabled", "true");
  new MutationObserver(() => {
    if (document.documentElement.dataset.client !== "ready") return;
    ready = true;
    for (const e of acts) e.removeAttribute("aria-disabled");
    for (const e of document.querySelectorAll("#controls [disabled], .modecard [disabled]")) e.disabled = false;
    keep();
  }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-client"] });

  // counted hands the body on and reports its uncompressed bytes.
  const counted = (response) => {
    let got = 0;
    const body = response.body.pipeThrough(
      new TransformStream({
        transform(chunk, to) {
          got += chunk.byteLength;
          const done = size ? Math.min(got, size) : got;
          mark("wait", size ? `${megabytes(done)} of ${megabytes(size)} MB` : `${megabytes(done)} MB`);
          to.enqueue(chunk);
        },
      }),
    );
    return new Response(body, { headers: { "Content-Type": "application/wasm" } });
  };

  async function start() {
    if (!size) return failed("It was built without its client: make wasm builds it.");
    if (typeof WebAssembly !== "object" || typeof Go !== "function") return failed("This browser cannot run WebAssembly.");
    try {
      const response = await fetch(me.dataset.wasm);
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      const go = new Go();
      const { instance } = await WebAssembly.instantiateStreaming(counted(response), go.importObject);
      mark("wait", "Starting");
      await go.run(instance); // returns only when the client ends
      ready = false;
      failed("It stopped.");
    } catch (e) {
      ready = false;
      failed(e instanceof Error ? e.message + "." : String(e));
    }
  }
  start();
})();
