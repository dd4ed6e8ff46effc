"use strict";
const byId = (name) => document.getElementById(name);
const data = JSON.parse(byId("viewer-data").textContent);
const MARK = "{{ palette.LESION }}", RING = "{{ palette.BLUE }}", FIELD = "{{ palette.FIELD }}", INK = "{{ palette.INK }}";
const night = matchMedia("screen and (prefers-color-scheme: dark)");
const look = { threshold: data.threshold, opacity: 1, window: 1, gamma: 0.5 };
let chosen = null, asked = null, wait = null;

class View {
  constructor(facts, figure) {
    this.facts = facts;
    this.canvas = figure.querySelector("canvas");
    this.pen = this.canvas.getContext("2d");
    this.fingers = new Map();
    this.lesions = [];
    this.counts = null;
    this.listen();
  }

  async load() {
    const answer = await fetch(`../scans/${encodeURIComponent(this.facts.stem)}/pixels`);
    if (!answer.ok) throw new Error((await answer.json()).detail);
    const bytes = await answer.arrayBuffer(), size = this.facts.rows * this.facts.columns;
    this.counts = new Int32Array(bytes, 0, size);
    this.probability = new Float32Array(bytes, 4 * size, size);
    this.grey = document.createElement("canvas");
    [this.grey.width, this.grey.height] = [this.facts.columns, this.facts.rows];
    this.shade();
    this.outline();
    this.fit();
  }

  // Inverse grey: black is where counts reach the window's end.
  shade() {
    if (!this.counts) return;
    const pen = this.grey.getContext("2d"), picture = pen.createImageData(this.facts.columns, this.facts.rows);
    const end = this.facts.black * look.window;
    for (let i = 0; i < this.counts.length; i++) {
      const dark = Math.min(1, this.counts[i] / end) ** look.gamma;
      picture.data.fill(255 * (1 - dark), 4 * i, 4 * i + 3);
      picture.data[4 * i + 3] = 255;
    }
    pen.putImageData(picture, 0, 0);
  }

  // Along the borders of the pixels that are above the threshold, as in the mask that is downloaded.
  outline() {
    if (!this.counts) return;
    const { rows, columns } = this.facts, path = new Path2D();
    const above = (r, c) => r >= 0 && c >= 0 && r < rows && c < columns && this.probability[r * columns + c] > look.threshold;
    this.marked = 0;
    for (let i = 0; i < this.probability.length; i++) {
      if (!(this.probability[i] > look.threshold)) continue;
      this.marked++;
      const r = Math.floor(i / columns), c = i % columns;
      for (const [inside, x0, y0, x1, y1] of [[above(r - 1, c), c, r, c + 1, r], [above(r + 1, c), c, r + 1, c + 1, r + 1], [above(r, c - 1), c, r, c, r + 1], [above(r, c + 1), c + 1, r, c + 1, r + 1]]) {
        if (!inside) { path.moveTo(x0, y0); path.lineTo(x1, y1); }
      }
    }
    this.edges = path;
    this.canvas.dataset.marked = this.marked;
  }

  fit(whole = false) {
    const { box, rows, columns } = this.facts, { width, height } = this.size();
    const part = whole ? { row: 0, column: 0, rows, columns } : { row: box.row, column: box.column, rows: box.size_px, columns: box.size_px };
    this.scale = Math.min(width / part.columns, height / part.rows);
    this.x = width / 2 - this.scale * (part.column + part.columns / 2);
    this.y = height / 2 - this.scale * (part.row + part.rows / 2);
    this.draw();
  }

  size() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    return { width, height, ratio };
  }

  zoom(factor, x, y) {
    const { width, height } = this.size();
    const [px, py] = [x ?? width / 2, y ?? height / 2];
    const scale = Math.max(0.2, Math.min(60, this.scale * factor));
    this.x = px - (px - this.x) * (scale / this.scale);
    this.y = py - (py - this.y) * (scale / this.scale);
    this.scale = scale;
    this.draw();
  }

  move(dx, dy) { this.x += dx; this.y += dy; this.draw(); }

  draw() {
    if (!this.counts) return;
    const { width, height, ratio } = this.size(), pen = this.pen;
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    pen.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
    pen.imageSmoothingEnabled = this.scale < 8 * ratio;
    pen.drawImage(this.grey, 0, 0);
    // As `.scan` in the stylesheet, but for the outlines.
    if (night.matches) { pen.fillStyle = "rgb(0 0 0 / 0.2)"; pen.fillRect(-1e4, -1e4, 1e5, 1e5); }
    const line = ratio / this.scale;
    pen.lineJoin = "round";
    pen.strokeStyle = FIELD;
    pen.lineWidth = line;
    pen.strokeRect(this.facts.box.column, this.facts.box.row, this.facts.box.size_px, this.facts.box.size_px);
    pen.globalAlpha = look.opacity;
    pen.strokeStyle = MARK;
    pen.lineWidth = 1.8 * line;
    pen.stroke(this.edges);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    for (const lesion of this.lesions) this.number(lesion, ratio);
    pen.globalAlpha = 1;
    this.ruler(width, height, ratio);
    const sides = { anterior: ["R", "L"], posterior: ["L", "R"] }[this.facts.view];
    if (!sides) return;
    this.words(sides[0], 8 * ratio, 18 * ratio, INK, ratio);
    this.words(sides[1], width - 18 * ratio, 18 * ratio, INK, ratio);
  }

  // A length in mm, at most a third of the width.
  ruler(width, height, ratio) {
    if (!this.facts.pixel_mm) return;
    const pen = this.pen, mm = [500, 200, 100, 50, 20, 10, 5].find((each) => this.length(each) < width / 3);
    this.canvas.dataset.ruler = mm ?? "";
    if (!mm) return;
    pen.fillStyle = "#fff";
    pen.fillRect(7 * ratio, height - 11 * ratio, this.length(mm) + 2 * ratio, 4 * ratio);
    pen.fillStyle = INK;
    pen.fillRect(8 * ratio, height - 10 * ratio, this.length(mm), 2 * ratio);
    this.words(`${mm} mm`, 8 * ratio, height - 15 * ratio, INK, ratio);
  }
  length(mm) { return (this.scale * mm) / this.facts.pixel_mm[1]; }

  // With a white rim, so that they can be read on bone and on air.
  words(text, x, y, colour, ratio) {
    const pen = this.pen;
    pen.lineWidth = 3 * ratio;
    pen.strokeStyle = "#fff";
    pen.strokeText(text, x, y);
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  }

  number(lesion, ratio) {
    const pen = this.pen, x = this.x + this.scale * (lesion.column + 0.5), y = this.y + this.scale * (lesion.row + 0.5);
    const radius = this.scale * Math.sqrt(lesion.area / Math.PI) + 3 * ratio;
    this.words(lesion.id, x + 0.7 * radius + 2, y - 0.7 * radius, MARK, ratio);
    if (lesion.key !== chosen) return;
    pen.beginPath();
    pen.arc(x, y, radius + 4 * ratio, 0, 7);
    pen.strokeStyle = RING;
    pen.stroke();
  }

  // Brings a lesion into the middle, enlarged if it was tiny.
  show(lesion) {
    const { width, height } = this.size();
    this.x = width / 2 - this.scale * lesion.column;
    this.y = height / 2 - this.scale * lesion.row;
    this.draw();
  }

  press(event) {
    const [x, y] = this.place(event), column = (x - this.x) / this.scale - 0.5, row = (y - this.y) / this.scale - 0.5;
    const distances = this.lesions.map((lesion) => Math.hypot(lesion.row - row, lesion.column - column) - Math.sqrt(lesion.area / Math.PI));
    const nearest = distances.indexOf(Math.min(...distances));
    choose(nearest >= 0 && distances[nearest] < 8 / Math.min(this.scale, 4) + 2 ? this.lesions[nearest].key : null, { scroll: true });
  }

  place(event) {
    const edge = this.canvas.getBoundingClientRect(), { ratio } = this.size();
    return [(event.clientX - edge.left) * ratio, (event.clientY - edge.top) * ratio];
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), ...this.place(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, this.place(event));
      this.dragged = 0;
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => {
      if (this.fingers.size === 1 && this.dragged < 5) this.press(event);
      this.fingers.delete(event.pointerId);
    });
    canvas.addEventListener("pointercancel", (event) => this.fingers.delete(event.pointerId));
    canvas.addEventListener("keydown", (event) => {
      const step = 40, keys = {
        ArrowLeft: () => this.move(step, 0), ArrowRight: () => this.move(-step, 0), ArrowUp: () => this.move(0, step), ArrowDown: () => this.move(0, -step),
        "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(), 9: () => this.fit(true),
      };
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    const now = this.place(event), others = [...this.fingers].filter(([id]) => id !== event.pointerId);
    this.fingers.set(event.pointerId, now);
    this.dragged += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (!others.length) return this.move(now[0] - before[0], now[1] - before[1]);
    const other = others[0][1], apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
    this.zoom(apart(now) / Math.max(1, apart(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }
}

const views = data.views.map((facts, n) => new View(facts, document.querySelector(`[data-number="${n}"]`)));

function choose(key, { scroll = false } = {}) {
  chosen = key;
  for (const row of document.querySelectorAll("tr[data-stem]")) {
    const own = `${row.dataset.stem} ${row.dataset.lesion}` === key;
    row.setAttribute("aria-selected", own);
    if (own && scroll) row.scrollIntoView({ block: "nearest" });
  }
  for (const view of views) view.draw();
}

// Rows of the table become lesions of the pictures.
function link() {
  for (const view of views) view.lesions = [];
  for (const row of document.querySelectorAll("tr[data-stem]")) {
    const { stem, lesion } = row.dataset, key = `${stem} ${lesion}`;
    const view = views.find((each) => each.facts.stem === stem);
    const facts = { key, id: lesion, row: Number(row.dataset.row), column: Number(row.dataset.column), area: Number(row.dataset.area) };
    view?.lesions.push(facts);
    row.tabIndex = 0;
    const pick = () => { choose(key); view?.show(facts); };
    row.addEventListener("click", pick);
    row.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pick();
    });
  }
  choose(chosen);
}

// Outlines follow at once; the table is measured by the program that made the results.
async function recount() {
  asked?.abort();
  asked = new AbortController();
  const query = look.threshold === data.own ? "" : `?threshold=${look.threshold}`;
  history.replaceState(null, "", location.pathname + query);
  for (const link of document.querySelectorAll("#downloads a")) link.search = query;
  try {
    const answer = await fetch(`${encodeURIComponent(data.key)}/findings${query}`, { signal: asked.signal });
    if (!answer.ok) throw new Error((await answer.json()).detail);
    byId("findings").innerHTML = await answer.text();
    byId("findings").classList.remove("old");
    byId("findings").dataset.threshold = look.threshold;
    link();
  } catch (error) {
    if (error.name !== "AbortError") problem(error);
  }
}
function problem(error) {
  const gone = error instanceof TypeError;  // what fetch throws when nobody answers
  byId("problem").textContent = gone ? "msanet serve does not answer. Start it again." : error.message;
  byId("problem").hidden = false;
}

// A result that there is not, as a segmentation of a PNG, is a line here instead of a failed download.
async function download(link) {
  byId("problem").hidden = true;
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const name = /filename\*?="?(?:utf-8'')?([^"]+)/.exec(answer.headers.get("content-disposition"))[1];
    const address = URL.createObjectURL(await answer.blob());
    Object.assign(document.createElement("a"), { href: address, download: decodeURIComponent(name) }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  } catch (error) {
    problem(error);
  }
  link.removeAttribute("aria-busy");
}
for (const link of document.querySelectorAll("#downloads a")) {
  link.addEventListener("click", (event) => { event.preventDefault(); download(link); });
}

night.addEventListener("change", () => views.forEach((view) => view.draw()));
function label() {
  byId("threshold-value").textContent = look.threshold.toFixed(3);
  byId("opacity-value").textContent = `${Math.round(100 * look.opacity)} %`;
  byId("window-value").textContent = `${Math.round(100 * look.window)} %`;
  byId("gamma-value").textContent = look.gamma.toFixed(2);
}
function setThreshold(value) {
  look.threshold = value;
  byId("findings").classList.add("old");
  for (const view of views) view.outline();
  clearTimeout(wait);
  wait = setTimeout(recount, 150);
}
const changes = {
  threshold: setThreshold,
  opacity: (value) => { look.opacity = value / 100; },
  window: (value) => { look.window = value / 100; views.forEach((view) => view.shade()); },
  gamma: (value) => { look.gamma = value; views.forEach((view) => view.shade()); },
};
for (const [name, change] of Object.entries(changes)) {
  byId(name).addEventListener("input", () => {
    change(Number(byId(name).value));
    label();
    for (const view of views) view.draw();
  });
}
const all = (act) => () => views.forEach(act);
byId("closer").addEventListener("click", all((view) => view.zoom(1.25)));
byId("farther").addEventListener("click", all((view) => view.zoom(0.8)));
byId("thorax").addEventListener("click", all((view) => view.fit()));
byId("whole").addEventListener("click", all((view) => view.fit(true)));
byId("reset").addEventListener("click", () => {
  Object.assign(look, { opacity: 1, window: 1, gamma: 0.5 });
  for (const [name, value] of [["threshold", data.own], ["opacity", 100], ["window", 100], ["gamma", 0.5]]) byId(name).value = value;
  setThreshold(data.own);
  label();
  for (const view of views) { view.shade(); view.fit(); }
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("threshold").value = look.threshold;
label();
link();
Promise.all(views.map((view) => view.load())).then(() => { document.body.dataset.ready = "yes"; }, problem);
