"use strict";
(async () => {
  const byId = (name) => document.getElementById(name);
  const data = JSON.parse(byId("gallery-data").textContent);
  if (typeof DecompressionStream === "undefined") {
    byId("gallery-problem").textContent = "This browser is too old for the gallery: it has no DecompressionStream.";
    byId("gallery-problem").hidden = false;
    return;
  }

  const opened = new Map();
  function open(blob) {
    if (!opened.has(blob)) {
      const packed = Uint8Array.from(atob(data.blobs[blob]), (letter) => letter.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
      opened.set(blob, new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer)));
    }
    return opened.get(blob);
  }

  // above[t] = how many of the counted pixels exceed threshold t, so that a slider step costs one look-up per image.
  function above(histogram) {
    const counts = new Uint32Array(data.levels + 2);
    for (let level = data.levels; level >= 0; level--) counts[level] = counts[level + 1] + histogram[level];
    return (threshold) => counts[threshold + 1];
  }

  async function prepare(image) {
    const [uptake, instances, planes] = await Promise.all([image.uptake, image.instances, image.level].map(open));
    const size = image.rows * image.columns;
    const level = new Uint16Array(size);
    const inside = new Uint32Array(data.levels + 1), outside = new Uint32Array(data.levels + 1);
    const lesions = new Map();
    let pixels = 0;
    for (let i = 0; i < size; i++) {
      level[i] = planes[i] + 256 * planes[size + i];
      const id = instances[i];
      if (!id) { outside[level[i]]++; continue; }
      inside[level[i]]++;
      pixels++;
      if (!lesions.has(id)) lesions.set(id, { histogram: new Uint32Array(data.levels + 1), places: [] });
      lesions.get(id).histogram[level[i]]++;
      lesions.get(id).places.push(i);
    }
    const found = image.lesions.map((fact) => {
      const counted = lesions.get(fact.id);
      return { ...fact, pixels: counted.places.length, places: counted.places, above: above(counted.histogram) };
    });
    return { ...image, uptake, instances, level, pixels, lesions: found, hits: above(inside), alarms: above(outside) };
  }

  function inSize(lesion, name) {
    const size = data.sizes.find((entry) => entry.name === name), mm = lesion.size_mm;
    return mm !== null && mm >= (size.from ?? -Infinity) && mm <= (size.to ?? Infinity)
      && mm < (size.below ?? Infinity) && mm > (size.above ?? -Infinity);
  }
  // "rib 5 left (12, 18 mm)": a place once, with all its sizes.
  function sites(lesions) {
    const sizes = new Map();
    for (const lesion of lesions) sizes.set(lesion.place, [...(sizes.get(lesion.place) ?? []), lesion]);
    return [...sizes].map(([place, those]) => {
      const mm = those.filter((lesion) => lesion.size_mm !== null).map((lesion) => lesion.size_mm.toFixed(0));
      const many = mm.length ? ` (${mm.join(", ")} mm)` : those.length > 1 ? ` (${those.length})` : "";
      return `${place}${many}`.trim() || `${those.length}`;
    }).join(", ");
  }
  const ratio = (part, whole) => (whole > 0 ? part / whole : NaN);
  const dsc = (tp, fp, fn) => ratio(2 * tp, 2 * tp + fp + fn);
  const text = (value) => (Number.isNaN(value) ? "–" : value.toFixed(3));

  function counted(image, threshold, overlap) {
    const tp = image.hits(threshold), fp = image.alarms(threshold), fn = image.pixels - tp;
    const detected = (lesion) => lesion.above(threshold) >= overlap * lesion.pixels;
    return { tp, fp, fn, dsc: dsc(tp, fp, fn), detected };
  }

  function element(tag, parent, classes = "") {
    const made = document.createElement(tag);
    if (classes) made.className = classes;
    parent.append(made);
    return made;
  }
  function outlines(parent, image, layer, names) {
    const paths = names.map((name) => `<path class="${name}"/>`).join("");
    parent.insertAdjacentHTML("beforeend", `<svg class="layer ${layer}" viewBox="0 0 ${image.columns} ${image.rows}">${paths}</svg>`);
    return Object.fromEntries(names.map((name) => [name, parent.lastElementChild.querySelector(`.${name}`)]));
  }

  // Black as in every picture: of the patient's pixels 99.3 % are paler. Counts rise with the square of uptake.
  function blackLevel(uptake) {
    const mean = uptake.reduce((sum, value) => sum + value * value, 0) / uptake.length;
    const inside = uptake.filter((value) => value * value > mean).sort();
    return inside.length ? inside[Math.round(0.993 * (inside.length - 1))] : 255;
  }
  function drawScan(target, image) {
    const context = target.getContext("2d"), picture = context.createImageData(image.columns, image.rows);
    const black = blackLevel(image.uptake);
    image.uptake.forEach((value, i) => picture.data.fill(255 - (255 * value) / black, 4 * i, 4 * i + 3));
    for (let i = 3; i < picture.data.length; i += 4) picture.data[i] = 255;
    context.putImageData(picture, 0, 0);
  }

  // Path along the borders of the pixels in `those`; `inside` tells whether a neighbour is one of them.
  function edges(those, inside, { rows, columns }) {
    const steps = [];
    for (const i of those) {
      const c = i % columns, r = (i - c) / columns;
      if (!r || !inside(i - columns)) steps.push(`M${c} ${r}h1`);
      if (r === rows - 1 || !inside(i + columns)) steps.push(`M${c} ${r + 1}h1`);
      if (!c || !inside(i - 1)) steps.push(`M${c} ${r}v1`);
      if (c === columns - 1 || !inside(i + 1)) steps.push(`M${c + 1} ${r}v1`);
    }
    return steps.join("");
  }
  function lesionEdges(lesions, image) {
    return lesions.map((lesion) => edges(lesion.places, (i) => image.instances[i] === lesion.id, image)).join("");
  }

  // Marks that touch a lesion, by way of the eight neighbours of a pixel, and those that touch none.
  function split(image, threshold) {
    const { rows, columns, level, instances } = image, state = new Uint8Array(level.length), marked = [], hit = [];
    for (let i = 0; i < level.length; i++) {
      if (level[i] <= threshold) continue;
      marked.push(i);
      state[i] = instances[i] ? 2 : 1;
      if (instances[i]) hit.push(i);
    }
    for (let n = 0; n < hit.length; n++) {
      const c = hit[n] % columns, r = (hit[n] - c) / columns;
      for (let y = Math.max(0, r - 1); y <= Math.min(rows - 1, r + 1); y++) {
        for (let x = Math.max(0, c - 1); x <= Math.min(columns - 1, c + 1); x++) {
          const i = y * columns + x;
          if (state[i] === 1) { state[i] = 2; hit.push(i); }
        }
      }
    }
    return { hit, alarm: marked.filter((i) => state[i] === 1), state };
  }

  function drawPrediction(paths, image, threshold, detected) {
    const { hit, alarm, state } = split(image, threshold);
    paths.hit.setAttribute("d", edges(hit, (i) => state[i] === 2, image));
    paths.false.setAttribute("d", edges(alarm, (i) => state[i] === 1, image));
    paths.missed.setAttribute("d", lesionEdges(image.lesions.filter((lesion) => !detected(lesion)), image));
  }

  function makeCard(image) {
    const figure = element("figure", byId("gallery"), "case");
    const stack = element("button", figure, "stack");
    const scan = Object.assign(element("canvas", stack, "scan"), { width: image.columns, height: image.rows });
    const { truth } = outlines(stack, image, "truth", ["truth"]);
    const prediction = outlines(stack, image, "prediction", ["missed", "false", "hit"]);
    stack.type = "button";
    stack.setAttribute("aria-pressed", "false");
    stack.addEventListener("click", () => stack.setAttribute("aria-pressed", String(figure.classList.toggle("large"))));
    const caption = element("figcaption", figure);
    const score = element("div", caption), counts = element("div", caption, "faint"), name = element("div", caption);
    name.textContent = image.id;
    drawScan(scan, image);
    truth.setAttribute("d", lesionEdges(image.lesions, image));
    return { image, figure, stack, prediction, score, counts, list: element("div", caption, "faint"), drawn: -1 };
  }

  let run, cards = [];
  const chosen = () => ({ threshold: Number(byId("threshold").value), size: byId("size").value, bone: byId("bone").value });

  function update(ordered) {
    const { threshold, size, bone } = chosen();
    const matches = (lesion) => (!size || inSize(lesion, size)) && (!bone || lesion.bone === bone);
    const sum = { images: 0, tp: 0, fp: 0, fn: 0, found: 0, lesions: 0 };
    for (const card of cards) {
      const { image } = card, now = counted(image, threshold, run.overlap_min);
      const wanted = image.lesions.filter(matches);
      card.dsc = now.dsc;
      card.figure.hidden = Boolean(size || bone) && !wanted.length;
      if (card.figure.hidden) continue;
      const found = wanted.filter(now.detected).length;
      sum.images++;
      for (const key of ["tp", "fp", "fn"]) sum[key] += now[key];
      sum.found += found;
      sum.lesions += wanted.length;
      card.score.innerHTML = "<b></b>";
      const healthy = !image.lesions.length;
      card.score.firstChild.textContent = healthy ? "no lesion" : `DSC ${text(now.dsc)}`;
      card.score.append(healthy ? (now.fp ? ", marked all the same" : ", none marked") : `, ${found} of ${wanted.length} lesions`);
      card.counts.textContent = `TP ${now.tp}, FP ${now.fp}, FN ${now.fn} pixels`;
      const told = [["found", wanted.filter(now.detected)], ["missed", wanted.filter((lesion) => !now.detected(lesion))]];
      card.list.textContent = told.filter(([, lesions]) => lesions.length).map(([what, lesions]) => `${what}: ${sites(lesions)}`).join("; ");
      card.stack.setAttribute("aria-label", `${image.id}: DSC ${text(now.dsc)}, ${found} of ${wanted.length} lesions found`);
      if (card.drawn !== threshold) drawPrediction(card.prediction, image, threshold, now.detected);
      card.drawn = threshold;
    }
    byId("threshold-value").textContent = (threshold / data.levels).toFixed(3);
    byId("sum-images").textContent = sum.images;
    for (const key of ["tp", "fp", "fn"]) byId(`sum-${key}`).textContent = sum[key];
    byId("sum-dsc").textContent = text(dsc(sum.tp, sum.fp, sum.fn));
    byId("sum-precision").textContent = text(ratio(sum.tp, sum.tp + sum.fp));
    byId("sum-recall").textContent = text(ratio(sum.tp, sum.tp + sum.fn));
    byId("sum-found").textContent = `${sum.found} of ${sum.lesions}`;
    if (ordered) order();
  }

  // Not while a slider moves: cards that change places under the eye cannot be compared.
  function order() {
    const rule = byId("sort").value, sign = rule === "best" ? -1 : 1;
    const value = (card) => (Number.isNaN(card.dsc) ? Infinity : sign * card.dsc);
    const name = (a, b) => (a.image.id < b.image.id ? -1 : 1);
    const rules = {
      id: name,
      lesions: (a, b) => b.image.lesions.length - a.image.lesions.length || name(a, b),
    };
    const byScore = (a, b) => (value(a) === value(b) ? name(a, b) : value(a) < value(b) ? -1 : 1);
    cards.sort(rules[rule] ?? byScore);
    byId("gallery").append(...cards.map((card) => card.figure));
  }

  async function choose(number) {
    run = data.runs[number];
    const images = await Promise.all(run.images.map(prepare));
    byId("gallery").replaceChildren();
    cards = images.map(makeCard);
    byId("threshold").value = run.threshold;
    update(true);
  }

  function fade() {
    byId("gallery").style.setProperty("--fade", byId("fade").value / 100);
    byId("fade-value").textContent = `${byId("fade").value} %`;
  }
  let waiting = false;
  byId("threshold").addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(false); });
  });
  byId("threshold").addEventListener("change", () => update(true));
  for (const name of ["sort", "size", "bone"]) byId(name).addEventListener("change", () => update(true));
  byId("run")?.addEventListener("change", () => choose(Number(byId("run").value)));
  byId("own-threshold").addEventListener("click", () => { byId("threshold").value = run.threshold; update(true); });
  byId("fade").addEventListener("input", fade);
  for (const layer of ["truth", "prediction"]) {
    byId(`show-${layer}`).addEventListener("change", (event) => byId("gallery").classList.toggle(`no-${layer}`, !event.target.checked));
  }
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").reset();
  fade();
  await choose(0);
  byId("controls").hidden = false;
  byId("gallery").dataset.ready = "true";
})().catch((error) => {
  const problem = document.getElementById("gallery-problem");
  problem.textContent = `The gallery cannot be shown: ${error.message}`;
  problem.hidden = false;
});
