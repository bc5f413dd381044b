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
    // The menu closes first, so that its button is what a dialog gives the focus back to.
    e.target.closest(".menu")?.hidePopover();
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
    // A click beside a dialog closes it; one that began in it, to mark its text, does not.
    if (e.target instanceof HTMLDialogElement && e.target === pressed) e.target.close();
  });
  let pressed = null;
  document.addEventListener("pointerdown", (e) => (pressed = e.target), true);
  document.addEventListener("beforetoggle", (e) => {
    document.querySelector(`[popovertarget="${e.target.id}"]`)?.setAttribute("aria-expanded", e.newState === "open");
  }, true);
  // A keyboard on the screen covers a phone's page and makes it no lower: dialogs fit
  // what is left. A page that is magnified sees a part of itself, too, and is left alone.
  const room = window.visualViewport;
  const fit = () => {
    const covered = Math.abs(room.scale - 1) < 0.01 && room.height < root.clientHeight - 100;
    root.style.setProperty("--room", covered ? room.height + "px" : "");
    root.style.setProperty("--room-top", covered ? room.offsetTop + "px" : "");
  };
  for (const by of ["resize", "scroll"]) room?.addEventListener(by, fit);
  document.addEventListener("keydown", (e) => {
    const typing = e.target.closest?.("input, textarea, select, [contenteditable]");
    if (e.key === "?" && !typing && !document.querySelector("dialog[open]")) dialog("keys")?.showModal();
    const form = e.key === "Enter" && (e.ctrlKey || e.metaKey) && e.target.closest?.("dialog form");
    if (form) {
      e.preventDefault(); // or the same key presses the button that gets the focus back
      form.querySelector("[type=submit]").click();
    }
  });
})();
