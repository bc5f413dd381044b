// nrtMorph(element, html) makes an element's content what html says and touches
// only what differs: focus, selection, scrolling and open accordions stay, and
// bars that change slide. Children with an id, and list items whose first child
// has one, are recognised wherever they move.
(() => {
  "use strict";
  const template = document.createElement("template");
  const key = (n) => (n.nodeName === "LI" ? (n.firstElementChild?.id ?? "") : (n.id ?? ""));
  // Whole parts that often stay are compared at once, which browsers do fastest.
  const part = new Set(["LI", "TR", "OL", "SELECT", "g", "svg"]);
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName;
  const move = (parent, node, before) => (parent.moveBefore ? parent.moveBefore(node, before) : parent.insertBefore(node, before));

  function attributes(a, b) {
    const details = a.nodeName === "DETAILS"; // open is the reader's
    const have = a.attributes, want = b.attributes;
    let equal = have.length === want.length;
    for (let i = 0; i < want.length; i++) {
      const { name, value } = want[i];
      if (equal && have[i].name === name && have[i].value === value) continue;
      equal = false;
      if (!(details && name === "open") && a.getAttribute(name) !== value) a.setAttribute(name, value);
    }
    if (!equal) {
      for (let i = have.length - 1; i >= 0; i--) {
        const { name } = have[i];
        if (!b.hasAttribute(name) && !(details && name === "open")) a.removeAttribute(name);
      }
    }
    // What is being set by hand stays; a slider is, as long as it is pressed.
    if (a === document.activeElement && (a.type !== "range" || a.matches(":active"))) return;
    if (a.nodeName === "INPUT" && a.value !== b.value) a.value = b.value;
    if (a.nodeName === "OPTION" && a.selected !== b.hasAttribute("selected")) a.selected = b.hasAttribute("selected");
  }

  function children(a, b) {
    let known = null; // built when the first child is not where it was
    const find = (k, from) => {
      if (!known) {
        known = new Map();
        for (let c = from; c; c = c.nextSibling) {
          const at = key(c);
          if (at) known.set(at, c);
        }
      }
      return known.get(k) ?? null;
    };
    let at = a.firstChild;
    for (let n = b.firstChild, next; n; n = next) {
      next = n.nextSibling;
      const k = key(n);
      let old = at;
      if (at && (k || at.nodeType === 1) && key(at) !== k) old = k ? find(k, at) : null;
      if (old && !alike(old, n)) old = null;
      if (!old) {
        a.insertBefore(n, at); // taken out of the template
        continue;
      }
      if (old === at) at = at.nextSibling;
      else move(a, old, at);
      same(old, n);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function same(a, b) {
    if (a.nodeType !== 1) {
      if (a.data !== b.data) a.data = b.data;
      return;
    }
    if (part.has(a.nodeName) && a.isEqualNode(b)) return;
    attributes(a, b);
    if (a.firstChild || b.firstChild) children(a, b);
  }

  // What is chosen is brought into sight where its part of the page scrolls by
  // itself, once for each choice: what the reader scrolls to stays.
  const chosen = ".chain[aria-pressed=true], .tok.on, tr.on, .sent.is-on, .sb.on";
  const seen = new Map();
  function reveal(element) {
    const all = [...element.querySelectorAll(chosen)];
    const now = all.map((e) => e.id || e.dataset.value || e.firstElementChild?.id).join();
    if (now === (seen.get(element) ?? "")) return;
    seen.set(element, now);
    for (const e of all) {
      for (let box = e.parentElement; box && box.id !== "page"; box = box.parentElement) {
        const across = box.scrollWidth > box.clientWidth + 1, down = box.scrollHeight > box.clientHeight + 1;
        if (!across && !down) continue;
        const { overflowX, overflowY } = getComputedStyle(box);
        const r = e.getBoundingClientRect(), b = box.getBoundingClientRect();
        if (across && overflowX === "auto") box.scrollLeft += Math.min(0, r.left - b.left - 8) || Math.max(0, r.right - b.right + 8);
        if (down && overflowY === "auto") box.scrollTop += Math.min(0, r.top - b.top - 8) || Math.max(0, r.bottom - b.bottom + 8);
      }
    }
  }
  for (const id of ["strip", "chain", "chains", "why"]) reveal(document.getElementById(id));

  // To look where things are lays the page out: once for all that is drawn together.
  const drawn = new Set();
  const look = () => {
    for (const element of drawn) reveal(element);
    drawn.clear();
    // Where a part scrolls by itself and holds nothing to focus, it is focused itself.
    for (const e of document.querySelectorAll("#question, .plots")) {
      if (e.scrollHeight > e.clientHeight) e.tabIndex = 0;
      else e.removeAttribute("tabindex");
    }
  };

  globalThis.nrtMorph = (element, html) => {
    if (!drawn.size) queueMicrotask(look);
    drawn.add(element);
    template.innerHTML = html;
    children(element, template.content);
    template.replaceChildren();
  };
})();
