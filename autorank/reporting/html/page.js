"use strict";

// The best point with at most so many parameters; of equal scores the smallest. `points` rise in parameters.
function pick(points, most) {
  return points.filter((point) => point.params <= most).reduce(
    (best, point) => (best === null || point.score > best.score ? point : best), null);
}

// The slider's 0 to 1000 as a number of parameters, equal steps on a logarithmic axis, and back.
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

// The points that the slider can pick, by rising parameters: what arrow keys go through.
function stops(points) {
  return points.filter((point) => pick(points, point.params) === point);
}

// 150000, 150,000, 150k, 1.2M as a number; null for anything else.
function parseCount(text) {
  const found = /^([0-9]*\.?[0-9]+)\s*([kMG]?)$/.exec(text.replace(/[, _]/g, ""));
  return found && Math.round(Number(found[1]) * { "": 1, k: 1e3, M: 1e6, G: 1e9 }[found[2]]);
}

// Cells compare as numbers where both are, else as texts.
function compareKeys(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return a !== "" && b !== "" && !isNaN(x) && !isNaN(y) ? x - y : a.localeCompare(b);
}

function start() {
  const { figures, points } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  // Colours: figures name variables of the style sheet, which a probe turns into what they are in the present theme.
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
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, themed(each)]));
  }

  // Ticks at 1, 2, 5 times powers of ten are a logarithmic axis's alone.
  function axis(place) {
    const log = place.dataset.axis === "log";
    return log ? { type: "log" } : { type: "linear", dtick: null, tickmode: "auto" };
  }
  const finger = matchMedia("(pointer: coarse)").matches; // which scrolls the page, and does not zoom figures
  const config = {
    displayModeBar: finger ? false : "hover", displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"],
    showSendToCloud: false, plotlyServerURL: "", // Plotly's default offers to upload the figure
  };
  function draw(place) {
    const figure = figures[place.dataset.figure];
    if (figure.note) {
      Plotly.purge(place);
      place.textContent = figure.note;
      return;
    }
    if (!place.classList.contains("js-plotly-plot")) place.textContent = "";
    const { data, layout } = themed(figure);
    // Where a legend has a line a name, it takes none of the picture's own height.
    if (place.clientWidth < 500) layout.height += 18 * data.filter((each) => each.name && each.showlegend !== false).length;
    if (finger) layout.dragmode = false;
    if (place.dataset.axis) Object.assign(layout.xaxis, axis(place));
    Plotly.react(place, data, layout, config);
  }
  function redraw() {
    for (const key of Object.keys(colors)) delete colors[key];
    document.querySelectorAll(".plot").forEach(draw);
    if (points.length) show();
  }

  // Theme: the system's, until the button says otherwise. Sandboxed frames have no storage.
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  function remembered(value) {
    try {
      if (value) localStorage.setItem("autorank-theme", value);
      return localStorage.getItem("autorank-theme");
    } catch { return null; }
  }
  if (remembered()) root.dataset.theme = remembered();
  byId("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    remembered(root.dataset.theme);
    redraw();
  });
  dark.addEventListener("change", redraw);

  document.querySelectorAll("select[data-plots]").forEach((select) => select.addEventListener("change", () => {
    for (const [name, prefix] of Object.entries(JSON.parse(select.dataset.plots))) {
      const place = byId(`plot-${name}`);
      place.dataset.figure = prefix + select.value;
      draw(place);
    }
  }));

  document.querySelectorAll("button[data-axis]").forEach((button) => button.addEventListener("click", () => {
    const place = byId("plot-front");
    place.dataset.axis = button.dataset.axis;
    document.querySelectorAll("button[data-axis]").forEach((each) =>
      each.setAttribute("aria-pressed", String(each === button)));
    redraw();
  }));

  // The picker; points are there only with it.
  const smallest = points.length ? points[0].params : 0, largest = points.length ? points[points.length - 1].params : 0;
  let most = largest;
  function list(place, entries) {
    place.replaceChildren(...entries.map(([name, value]) => {
      const row = document.createElement("div");
      row.append(Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: value }));
      return row;
    }));
  }
  function show() {
    const point = pick(points, most);
    const none = point === null ? [["", `The smallest point of the front has ${smallest.toLocaleString("en")} parameters.`]] : [];
    list(byId("chosen-facts"), point ? Object.entries(point.facts) : none);
    list(byId("chosen-settings"), point ? Object.entries(point.settings) : []);
    byId("chosen-command").textContent = point ? point.command : "";
    byId("copy").hidden = !point;
    byId("slider").setAttribute("aria-valuetext", `${most.toLocaleString("en")} parameters`);
    const place = byId("plot-front"), last = figures.front.data.length - 1;
    Plotly.restyle(place, { x: [point ? [Math.max(point.params, 1)] : []], y: [point ? [point.score] : []] }, [last]);
  }
  if (points.length) {
    const slider = byId("slider"), box = byId("most");
    const set = (value) => { most = value; box.value = value.toLocaleString("en"); show(); };
    slider.addEventListener("input", () => set(atPosition(Number(slider.value), smallest, largest)));
    slider.addEventListener("keydown", (event) => {
      const params = stops(points).map((point) => point.params), after = params.find((each) => each > most);
      const before = params.findLast((each) => each < most);
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
      set(value === null ? most : value);
    });
    const knee = points.find((point) => point.knee) || points[points.length - 1];
    slider.value = positionOf(knee.params, smallest, largest);
    [most, box.value] = [knee.params, knee.params.toLocaleString("en")];
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

  // Tables sort by the column that is clicked, then the other way round.
  document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const head = button.parentElement, column = [...head.parentElement.children].indexOf(head);
    const body = head.closest("table").tBodies[0], down = head.getAttribute("aria-sort") === "ascending";
    head.parentElement.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) => compareKeys(key(a), key(b)));
    body.append(...(down ? rows.reverse() : rows));
  }));
}

if (typeof document !== "undefined") start();
if (typeof module !== "undefined") module.exports = { pick, stops, atPosition, positionOf, parseCount, compareKeys };
