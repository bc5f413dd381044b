// The training curves: four small uPlot charts with one cursor. The client
// calls nrtCharts.set(JSON) with
//   {runs: [{name, steps: [], reward: [], entropy: [], length: [], zero: []}],
//    at: step shown in the page or null, newest: the captions are of the first
//    run's last step, marks: [{step, reward}], why: there is no curve}
// at most two runs are drawn: the first solid, the second dashed.
(() => {
  "use strict";
  const keys = ["reward", "entropy", "length", "zero"];
  const say = { reward: (v) => v.toFixed(3), entropy: (v) => v.toFixed(2), length: (v) => v.toFixed(1), zero: (v) => Math.round(100 * v) + "\u2009%" };
  const charts = new Map(); // key → {plot, figure}
  let data = { runs: [], at: null, marks: [], why: "" };

  // colour resolves a custom property, light-dark() included.
  const colour = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const c = getComputedStyle(probe).color;
    probe.remove();
    return c;
  };

  const columns = (key) => {
    const runs = data.runs.slice(0, 2);
    const all = [...new Set(runs.flatMap((r) => r.steps))].sort((a, b) => a - b);
    const rows = runs.map((r) => {
      const at = new Map(r.steps.map((s, i) => [s, r[key]?.[i] ?? null]));
      return all.map((s) => at.get(s) ?? null);
    });
    return [all, ...rows];
  };

  const figureSize = (box) => ({ width: Math.max(120, box.clientWidth), height: Math.max(90, box.clientHeight) });

  function options(key, box) {
    const ink = colour("--ink"), faint = colour("--ink-3"), line = colour("--line"), surface = colour("--surface"), up = colour("--up-fill");
    const font = `${getComputedStyle(document.body).fontSize === "15px" ? 12 : 11}px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: faint, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const curve = [
      { label: data.runs[0]?.name ?? "run", stroke: ink, width: 1.75, points: { show: (u) => u.data[0].length < 3, size: 5, fill: ink } },
      { label: data.runs[1]?.name ?? "second run", stroke: faint, width: 1.5, dash: [4, 3], points: { show: false } },
    ];
    return {
      ...figureSize(box),
      padding: [8, 14, 0, 0], // half of the last step's number
      legend: { show: false },
      cursor: { sync: { key: "nrt-train" }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { time: false }, y: { range: (u, lo, hi) => (key === "zero" ? [0, 1] : lo === null ? [0, 1] : [Math.min(0, lo), hi > lo ? hi + 0.08 * (hi - Math.min(0, lo)) : hi + 1]) } },
      axes: [
        { ...axis, grid: { show: false }, size: 20, gap: 3, space: 40, values: (u, v) => v.map((x, i) => (Number.isInteger(x) ? (i === 0 ? "step " + x : String(x)) : "")) },
        { ...axis, size: (u, v) => Math.max(26, ...(v ?? []).map((x) => 5 + 7 * String(x).length)), gap: 4, space: 36, values: (u, v) => v.map((x) => (key === "zero" ? Math.round(100 * x) : Number(x.toPrecision(3)))) },
      ],
      series: [{}, ...curve.slice(0, Math.min(2, data.runs.length))],
      hooks: {
        draw: [
          (u) => {
            const c = u.ctx, ratio = devicePixelRatio;
            if (data.at !== null && data.at !== undefined && u.data[0].length) {
              const x = Math.round(u.valToPos(data.at, "x", true));
              c.save();
              c.strokeStyle = ink;
              c.lineWidth = ratio;
              c.setLineDash([ratio, 2 * ratio]);
              c.beginPath();
              c.moveTo(x, u.bbox.top);
              c.lineTo(x, u.bbox.top + u.bbox.height);
              c.stroke();
              c.restore();
            }
            if (key !== "reward") return;
            for (const m of data.marks ?? []) {
              const x = u.valToPos(m.step, "x", true), y = u.valToPos(m.reward, "y", true), d = 5 * ratio;
              c.save();
              c.fillStyle = up;
              c.strokeStyle = surface;
              c.beginPath();
              c.moveTo(x, y - d);
              c.lineTo(x + d, y);
              c.lineTo(x, y + d);
              c.lineTo(x - d, y);
              c.closePath();
              c.fill();
              c.stroke();
              c.restore();
            }
          },
        ],
        setCursor: [(u) => caption(key, u.cursor.idx)],
      },
    };
  }

  // labels tell the drawn runs apart: by method, else by run.
  const labels = () => {
    const runs = data.runs.slice(0, 2);
    const by = (name) => runs.map(name);
    return runs.length < 2 || runs[0].short !== runs[1].short ? by((r) => r.short) : by((r) => r.own);
  };

  // caption shows the value under the cursor, else at the first run's newest step or
  // at the chosen one, else the last; a step without a value, as the start of a run,
  // has the nearest before it, or the first that there is.
  function caption(key, idx) {
    const c = charts.get(key);
    if (!c) return;
    const [steps, ...rows] = c.plot.data;
    let i = idx;
    const has = (v) => v !== null && v !== undefined;
    if (!has(i) && data.newest) i = rows[0].findLastIndex(has);
    if (!has(i) || i < 0) {
      i = data.at === null || data.at === undefined ? steps.length - 1 : steps.findLastIndex((s) => s <= data.at);
    }
    const first = Math.min(...rows.map((r) => r.findIndex(has)).filter((n) => n >= 0));
    if (i < first && Number.isFinite(first)) i = first;
    const value = (r) => {
      const n = r.findLastIndex((v, k) => k <= i && has(v));
      return n < 0 ? undefined : r[n];
    };
    const runs = labels();
    const part = (none) => (r, k) => (rows.length > 1 ? runs[k] + " " : "") + (has(value(r)) ? say[key](value(r)) : none);
    const parts = rows.map(part("–"));
    const num = c.figure.querySelector(".num");
    num.textContent = parts.join(" · ");
    if (rows.length > 1) { // each name is underlined as its curve is drawn
      num.replaceChildren(...parts.flatMap((text, k) => {
        const name = document.createElement("u");
        name.textContent = runs[k];
        return [k ? " · " : "", name, text.slice(runs[k].length)];
      }));
    }
    const what = c.figure.querySelector(".what");
    const scales = new Set(data.runs.slice(0, 2).map((r) => r.formula));
    what.dataset.one ??= what.textContent;
    what.textContent = key === "reward" && scales.size > 1 ? "each by its own formula" : what.dataset.one;
    const name = c.figure.querySelector("b").textContent;
    c.plot.root.parentElement.setAttribute("aria-label", steps.length ? `${name} at step ${steps[i] ?? data.at}: ${rows.map(part("no value")).join(" and ")}. Arrow keys move along the run.` : `${name}: no run yet`);
  }

  // table is the same curve for a screen reader: at most twelve rows, the last step among
  // them, none of a step without values.
  function table(key, figure) {
    const [steps, ...rows] = charts.get(key).plot.data;
    const t = figure.querySelector("table");
    const has = (v) => v !== null && v !== undefined;
    const list = [...steps.keys()].filter((i) => rows.some((r) => has(r[i])));
    const every = Math.max(1, Math.ceil(list.length / 12));
    const cell = (kind, text) => {
      const e = document.createElement(kind);
      e.textContent = text;
      return e;
    };
    const line = (...cells) => {
      const e = document.createElement("tr");
      e.append(...cells);
      return e;
    };
    t.replaceChildren(line(cell("th", "step"), ...data.runs.slice(0, 2).map((r) => cell("th", r.name))));
    for (const i of list.filter((_, n) => (list.length - 1 - n) % every === 0)) {
      t.append(line(cell("th", String(steps[i])), ...rows.map((r) => cell("td", has(r[i]) ? say[key](r[i]) : ""))));
    }
  }

  function build(key) {
    const figure = document.querySelector(`#trainchart [data-chart="${key}"]`);
    const box = figure?.querySelector(".canvas");
    if (!box || typeof uPlot !== "function") return;
    const old = charts.get(key);
    old?.plot.destroy();
    charts.delete(key);
    if (!data.runs.length) {
      const why = document.createElement("p");
      why.className = "cap";
      why.textContent = data.why;
      box.replaceChildren(why);
      box.setAttribute("aria-label", figure.querySelector("b").textContent + ": " + (data.why || "on its way"));
      figure.querySelector(".num").textContent = "";
      return;
    }
    box.replaceChildren();
    charts.set(key, { plot: new uPlot(options(key, box), columns(key), box), figure, runs: data.runs.length, names: data.runs.map((r) => r.name).join() });
    caption(key);
    table(key, figure);
  }

  let due = false;
  function draw() {
    due = false;
    for (const key of keys) {
      const c = charts.get(key);
      if (!c || c.runs !== data.runs.length || c.names !== data.runs.map((r) => r.name).join()) {
        build(key);
        continue;
      }
      c.plot.setData(columns(key));
      caption(key, c.plot.cursor.idx);
      table(key, c.figure);
    }
  }

  // The secret under which this browser's training runs are its own. Where storage
  // is forbidden it lasts as long as the page.
  let secret = "";
  globalThis.nrtOwner = () => {
    try {
      secret ||= localStorage.getItem("nrt-owner") ?? "";
    } catch {}
    if (!/^[0-9a-f]{32}$/.test(secret)) {
      secret = [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
      try {
        localStorage.setItem("nrt-owner", secret);
      } catch {}
    }
    return secret;
  };

  globalThis.nrtCharts = {
    set(json) {
      data = typeof json === "string" ? JSON.parse(json) : json;
      data.runs ??= [];
      const classes = document.getElementById("trainchart")?.classList;
      classes?.toggle("empty", !data.runs.length);
      classes?.toggle("pair", data.runs.length > 1);
      if (due) return;
      due = true;
      requestAnimationFrame(draw);
    },
  };

  const rebuild = () => keys.forEach(build);
  document.addEventListener("nrt:theme", rebuild);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", rebuild);
  const box = document.getElementById("trainchart");
  if (!box) return;
  box.classList.add("empty");
  new ResizeObserver(() => {
    for (const { plot } of charts.values()) {
      const s = figureSize(plot.root.parentElement);
      if (s.width !== plot.width || s.height !== plot.height) plot.setSize(s);
    }
  }).observe(box);

  // ← and → walk along the run, as a mouse would; Home and End jump.
  box.addEventListener("keydown", (e) => {
    const key = e.target.closest("[data-chart]")?.dataset.chart;
    const c = charts.get(key);
    const n = c?.plot.data[0].length;
    if (!n || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(e.key)) return;
    e.preventDefault();
    e.stopPropagation();
    const now = c.plot.cursor.idx ?? (e.key === "ArrowLeft" ? n : -1);
    const i = e.key === "Home" ? 0 : e.key === "End" ? n - 1 : Math.min(n - 1, Math.max(0, now + (e.key === "ArrowLeft" ? -1 : 1)));
    const v = c.plot.data[1][i] ?? 0;
    c.plot.setCursor({ left: c.plot.valToPos(c.plot.data[0][i], "x"), top: c.plot.valToPos(v, "y") });
    caption(key, i);
    const status = document.getElementById("status");
    if (status) status.textContent = `step ${c.plot.data[0][i]}: ${c.figure.querySelector(".num").textContent}`;
  });
})();
