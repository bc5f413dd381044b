// Runs before the first paint: light or dark as last chosen, else as the system
// says. Everything here works without the WebAssembly client.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.replace("no-js", "js");
  const store = (set) => {
    try {
      if (set === undefined) return localStorage.getItem("theme");
      localStorage.setItem("theme", set);
    } catch {
      return null; // storage may be forbidden; the choice then lasts for this page
    }
  };
  const want = new URLSearchParams(location.search).get("theme") || store();
  if (want === "light" || want === "dark") root.dataset.theme = want;

  const dialog = (id) => document.getElementById(id);
  document.addEventListener("click", (e) => {
    if (e.target.closest("[data-theme-toggle]")) {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      store(root.dataset.theme);
      document.dispatchEvent(new Event("nrt:theme"));
      return;
    }
    const open = e.target.closest("[data-open]");
    if (open) dialog(open.dataset.open)?.showModal();
    const close = e.target.closest("[data-close]");
    if (close) close.closest("dialog")?.close();
    if (e.target instanceof HTMLDialogElement) e.target.close(); // a click beside it
  });
  document.addEventListener("keydown", (e) => {
    const typing = e.target.closest?.("input, textarea, select, [contenteditable]");
    if (e.key === "?" && !typing && !document.querySelector("dialog[open]")) dialog("keys")?.showModal();
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) {
      e.target.closest?.("dialog form")?.querySelector("[type=submit]")?.click();
    }
  });
})();
