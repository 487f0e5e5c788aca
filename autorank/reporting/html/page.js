"use strict";

// The best point with at most `maxParams` parameters; of equal scores the smallest. `points` are sorted by parameters.
function pick(points, maxParams) {
  return points.filter((point) => point.params <= maxParams).reduce(
    (best, point) => (best === null || point.score > best.score ? point : best), null);
}

// The slider's position, 0 to 1000, as a number of parameters on a logarithmic axis, and back.
function atPosition(position, smallest, largest) {
  if (position >= 1000) return largest;
  if (position <= 0) return smallest;
  const low = Math.max(smallest, 1);
  return Math.max(smallest, Math.round(low * Math.pow(Math.max(largest, 1) / low, position / 1000)));
}

function positionOf(params, smallest, largest) {
  const low = Math.max(smallest, 1);
  if (largest <= low || params >= largest) return 1000;
  return Math.max(0, Math.floor(1000 * Math.log(Math.max(params, 1) / low) / Math.log(largest / low)));
}

// The points that the slider can select, by increasing parameters; arrow keys move between them.
function stops(points) {
  return points.filter((point) => pick(points, point.params) === point);
}

// 150000, 150,000, 150k, 1.2M as a number; null for anything else.
function parseCount(text) {
  const match = /^([0-9]*\.?[0-9]+)\s*([kMG]?)$/.exec(text.replace(/[, _]/g, ""));
  return match && Math.round(Number(match[1]) * { "": 1, k: 1e3, M: 1e6, G: 1e9 }[match[2]]);
}

// Compares cells as numbers if both are numbers, else as texts.
function compareKeys(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return a !== "" && b !== "" && !isNaN(x) && !isNaN(y) ? x - y : a.localeCompare(b);
}

function start() {
  const { figures, points } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  // Figures use color variables of the style sheet; a hidden element gives their values in the current theme.
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  const colors = {};
  function themed(value) {
    if (typeof value === "string" && value.startsWith("var(--")) {
      if (!(value in colors)) {
        probe.style.color = value;
        colors[value] = getComputedStyle(probe).color;
      }
      return colors[value];
    }
    if (Array.isArray(value)) return typeof value.at(-1) === "number" ? value : value.map(themed);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
  }

  // Ticks at 1, 2, 5 times powers of ten are for logarithmic axes only.
  function axis(plot) {
    const log = plot.dataset.axis === "log";
    return log ? { type: "log" } : { type: "linear", dtick: null, tickmode: "auto" };
  }
  const touch = matchMedia("(pointer: coarse)").matches; // a finger scrolls the page and does not zoom figures
  const config = {
    displayModeBar: touch ? false : "hover", displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"],
    showSendToCloud: false, plotlyServerURL: "", // Plotly's default offers to upload the figure
  };
  function draw(plot) {
    const figure = figures[plot.dataset.figure];
    if (figure.note) {
      Plotly.purge(plot);
      plot.textContent = figure.note;
      return;
    }
    if (!plot.classList.contains("js-plotly-plot")) plot.textContent = "";
    const { data, layout } = themed(figure);
    // In a narrow window the legend has one line per name; add their height to the figure's.
    if (plot.clientWidth < 500) layout.height += 18 * data.filter((trace) => trace.name && trace.showlegend !== false).length;
    if (touch) layout.dragmode = false;
    if (plot.dataset.axis) Object.assign(layout.xaxis, axis(plot));
    Plotly.react(plot, data, layout, config);
  }
  function redraw() {
    for (const key of Object.keys(colors)) delete colors[key];
    document.querySelectorAll(".plot").forEach(draw);
    if (points.length) show();
  }

  // Theme: the system's, until the button is used. Sandboxed frames have no storage.
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  function storedTheme(value) {
    try {
      if (value) localStorage.setItem("autorank-theme", value);
      return localStorage.getItem("autorank-theme");
    } catch { return null; }
  }
  if (storedTheme()) root.dataset.theme = storedTheme();
  byId("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    storedTheme(root.dataset.theme);
    redraw();
  });
  dark.addEventListener("change", redraw);

  document.querySelectorAll("select[data-plots]").forEach((select) => select.addEventListener("change", () => {
    for (const [name, prefix] of Object.entries(JSON.parse(select.dataset.plots))) {
      const plot = byId(`plot-${name}`);
      plot.dataset.figure = prefix + select.value;
      draw(plot);
    }
  }));

  document.querySelectorAll("button[data-axis]").forEach((button) => button.addEventListener("click", () => {
    byId("plot-front").dataset.axis = button.dataset.axis;
    document.querySelectorAll("button[data-axis]").forEach((other) =>
      other.setAttribute("aria-pressed", String(other === button)));
    redraw();
  }));

  // The slider; without it there are no points.
  const smallest = points.length ? points[0].params : 0, largest = points.length ? points[points.length - 1].params : 0;
  let maxParams = largest;
  function list(element, entries) {
    element.replaceChildren(...entries.map(([name, value]) => {
      const row = document.createElement("div");
      row.append(Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: value }));
      return row;
    }));
  }
  function show() {
    const point = pick(points, maxParams);
    const none = point === null ? [["", `The smallest point of the front has ${smallest.toLocaleString("en")} parameters.`]] : [];
    list(byId("chosen-facts"), point ? Object.entries(point.facts) : none);
    list(byId("chosen-settings"), point ? Object.entries(point.settings) : []);
    byId("chosen-command").textContent = point ? point.command : "";
    byId("copy").hidden = !point;
    byId("slider").setAttribute("aria-valuetext", `${maxParams.toLocaleString("en")} parameters`);
    const last = figures.front.data.length - 1;
    Plotly.restyle(byId("plot-front"), { x: [point ? [Math.max(point.params, 1)] : []], y: [point ? [point.score] : []] }, [last]);
  }
  if (points.length) {
    const slider = byId("slider"), box = byId("most");
    const set = (value) => { maxParams = value; box.value = value.toLocaleString("en"); show(); };
    slider.addEventListener("input", () => set(atPosition(Number(slider.value), smallest, largest)));
    slider.addEventListener("keydown", (event) => {
      const params = stops(points).map((point) => point.params), after = params.find((count) => count > maxParams);
      const before = params.findLast((count) => count < maxParams);
      const moves = {
        ArrowLeft: before, ArrowDown: before, ArrowRight: after, ArrowUp: after, Home: params[0], End: params.at(-1),
      };
      if (!(event.key in moves)) return;
      event.preventDefault();
      const next = moves[event.key];
      if (next === undefined) return;
      slider.value = positionOf(next, smallest, largest);
      set(next);
    });
    box.addEventListener("change", () => {
      const value = parseCount(box.value);
      if (value !== null) slider.value = positionOf(value, smallest, largest);
      set(value === null ? maxParams : value);
    });
    const knee = points.find((point) => point.knee) || points[points.length - 1];
    slider.value = positionOf(knee.params, smallest, largest);
    [maxParams, box.value] = [knee.params, knee.params.toLocaleString("en")];
    byId("copy").addEventListener("click", async () => {
      const text = byId("chosen-command").textContent;
      try { await navigator.clipboard.writeText(text); } catch {
        const area = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      byId("copy").textContent = "Copied";
      setTimeout(() => { byId("copy").textContent = "Copy"; }, 1500);
    });
  }

  redraw();

  // Clicking a column header sorts the table by it; clicking again reverses the order.
  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const head = button.parentElement, column = [...head.parentElement.children].indexOf(head);
    const body = head.closest("table").tBodies[0], down = head.getAttribute("aria-sort") === "ascending";
    head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) => compareKeys(key(a), key(b)));
    body.append(...(down ? rows.reverse() : rows));
  }));
}

if (typeof document !== "undefined") start();
if (typeof module !== "undefined") module.exports = { pick, stops, atPosition, positionOf, parseCount, compareKeys };
