// Walks through the lesson: shows one step, opens the address that it is about and
// frames the place to look at. ?lesson=3 opens the third step.
(() => {
  "use strict";
  const box = document.getElementById("lesson");
  const button = document.getElementById("lesson-open");
  if (!box || !button) return;
  const steps = [...box.querySelectorAll("li")];
  const [back, next] = box.querySelectorAll("[data-lesson='-1'], [data-lesson='1']");
  const page = document.getElementById("page");
  let at = -1; // the step shown, −1: closed
  let scrolled = false; // by the reader, since
  for (const by of ["wheel", "touchmove"]) addEventListener(by, () => (scrolled = true), { passive: true });

  const remember = () => {
    const url = new URL(location.href);
    if (at < 0) url.searchParams.delete("lesson");
    else url.searchParams.set("lesson", at + 1);
    history.replaceState(history.state, "", url);
  };

  // frame marks the panel that a step is about, and brings it into view.
  const frame = (id) => {
    for (const e of document.querySelectorAll(".shown")) e.classList.remove("shown");
    const inner = id && document.getElementById(id);
    if (!inner) return;
    const panel = inner.closest(".panel, .pipe") ?? inner;
    panel.classList.add("shown");
    // On a phone a panel is higher than the window: what the step speaks of is to be in it.
    const phone = matchMedia("(max-width: 699px)").matches;
    const seen = [...(phone ? [] : [panel]), inner, ...inner.querySelectorAll("*")].find((e) => e.getClientRects().length > 0);
    // On a desk the lesson stays at the top, on a phone the answer's words do, where
    // there is room for them.
    const pinned = phone ? document.querySelector("#strip .toks") : box;
    const height = pinned && getComputedStyle(pinned).position === "sticky" ? pinned.offsetHeight : 0;
    document.documentElement.style.setProperty("--pinned", height + (phone ? 24 : 12) + "px");
    seen?.scrollIntoView({ block: phone ? "start" : "nearest" });
    // What has no room there ends above the lesson: its last line is what it comes to.
    const room = box.getBoundingClientRect().top;
    if (phone && seen && seen.offsetHeight > room - height) scrollBy(0, seen.getBoundingClientRect().bottom - room);
  };

  // show shows step n; keep leaves the address's hash as it is.
  const show = (n, keep) => {
    at = n;
    box.hidden = n < 0;
    page.classList.toggle("teaching", n >= 0);
    button.setAttribute("aria-expanded", n >= 0);
    steps.forEach((e, i) => e.classList.toggle("on", i === n));
    remember();
    if (n < 0) {
      document.documentElement.style.removeProperty("--pinned");
      return frame(null);
    }
    back.disabled = n === 0;
    next.textContent = n + 1 < steps.length ? "Next" : "Done";
    if (!keep) location.replace("#" + steps[n].dataset.hash);
    // The client draws with the next frames, and what is to be framed moves by it.
    scrolled = false;
    for (const ms of [50, 300]) setTimeout(() => at === n && !scrolled && frame(steps[n].dataset.show), ms);
  };

  const close = () => {
    show(-1);
    button.focus();
  };
  button.addEventListener("click", () => {
    if (at >= 0) return close();
    history.pushState(history.state, "", location.href); // what the reader had is one step back
    show(0);
    next.focus({ preventScroll: true });
  });
  box.addEventListener("click", (e) => {
    const by = e.target.closest("[data-lesson]")?.dataset.lesson;
    if (!by) return;
    if (by === "close" || at + Number(by) >= steps.length) return close();
    show(at + Number(by));
    if (document.activeElement === document.body || document.activeElement.disabled) next.focus({ preventScroll: true });
  });
  addEventListener("popstate", () => {
    if (at >= 0 && !new URLSearchParams(location.search).has("lesson")) show(-1);
  });
  box.addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    e.stopPropagation();
    close();
  });

  const asked = Number(new URLSearchParams(location.search).get("lesson"));
  if (asked >= 1 && asked <= steps.length) show(asked - 1, location.hash.length > 1);
})();
