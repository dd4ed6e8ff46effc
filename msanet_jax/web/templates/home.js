const byId = (name) => document.getElementById(name);
const drop = byId("drop"), jobs = byId("drops");
const LIMIT = {{ limit }};
const sending = new Map(), refused = new Map();
let version = null, timer = null, fetched = 0;

function say(text) { byId("status").textContent = text; }
function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return `${Math.round(seconds / 60)} min`;
}
async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) throw new Error((await answer.text()).trim() || `the server answered ${answer.status}`);
  return answer;
}

// Folders of a drop are walked; `readEntries` gives a hundred names at a time.
async function walk(entry, path, found) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ file, name: path + file.name });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const entries = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!entries.length) return;
    for (const each of entries) await walk(each, `${path}${entry.name}/`, found);
  }
}
// What was dropped must be asked for at once: after the first wait it is gone.
async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile()), found = [];
  for (const entry of entries) {
    if (entry instanceof File) found.push({ file: entry, name: entry.name });
    else if (entry) await walk(entry, "", found);
  }
  return found;
}

function send(file, address, job) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    job.request = request;
    request.open("PUT", address);
    request.upload.onprogress = (event) => { job.sent = job.before + event.loaded; show(job.last); };
    request.onload = () => (request.status < 300 ? done() : failed(new Error(request.responseText.trim())));
    request.onerror = () => failed(new Error(`${file.name}: the upload was cut off; is msanet serve still running?`));
    request.onabort = () => failed(new Error("cancelled"));
    request.send(file);
  });
}
async function take(files) {
  if (!files.length) return say("There was no file in it.");
  const job = { sent: 0, before: 0, total: 0, begin: performance.now(), stopped: false, request: null, last: null };
  try {
    const answer = await ask("drops", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        files: files.map((entry) => [entry.name, entry.file.size]),
        model: Number(byId("model")?.value ?? 0),
        earlier: byId("time").value === "earlier",
      }),
    });
    const { drop: number, files: numbers } = await answer.json();
    job.number = number;
    const accepted = files.map((entry, n) => ({ ...entry, index: numbers[n] })).filter((entry) => entry.index !== null);
    job.total = accepted.reduce((sum, entry) => sum + entry.file.size, 0);
    sending.set(number, job);
    await refresh();
    for (const entry of accepted) {
      if (job.stopped) break;
      try {
        await send(entry.file, `drops/${number}/files/${entry.index}`, job);
      } catch (error) {
        if (!job.stopped && !job.request.status) refused.set(number, [...(refused.get(number) ?? []), error.message]);
      }
      job.before += entry.file.size;
    }
    sending.delete(number);
    if (!job.stopped) await ask(`drops/${number}/start`, { method: "POST" });
  } catch (error) {
    say(error.message);
  }
  refresh();
}

function progress(facts) {
  const job = sending.get(facts.number);
  if (facts.state === "uploading") {
    const left = job && job.sent ? ((performance.now() - job.begin) / 1000 / job.sent) * (job.total - job.sent) : null;
    const share = job && job.total ? job.sent / job.total : null;
    return [`Copying ${facts.uploaded} of ${facts.files} files${left === null ? "" : `, about ${duration(left)} left`}`, share];
  }
  if (facts.state === "waiting") return ["Waiting for its turn", null];
  if (facts.state === "running") {
    const left = facts.seconds_left === null ? "" : `, about ${duration(facts.seconds_left)} left`;
    const now = facts.current ? `: ${facts.current}` : "";
    return [facts.found ? `Segmenting ${Math.min(facts.done + 1, facts.found)} of ${facts.found}${left}${now}` : "Reading", facts.found ? facts.done / facts.found : null];
  }
  const scans = `${facts.scans} scan${facts.scans === 1 ? "" : "s"} segmented`;
  const others = facts.left_out ? `, ${facts.left_out} other file${facts.left_out === 1 ? "" : "s"} ignored` : "";
  return [`${facts.state === "cancelled" ? "Cancelled; " : ""}${scans}${others}`, 1];
}
function show(facts) {
  if (!facts) return;
  const job = sending.get(facts.number);
  if (job) job.last = facts;
  let box = byId(`drop-${facts.number}`);
  if (!box) {
    box = Object.assign(document.createElement("section"), { id: `drop-${facts.number}`, className: "job" });
    box.append(...["p", "button", "progress", "ul"].map((name) => document.createElement(name)));
    const button = box.querySelector("button");
    Object.assign(button, { type: "button", textContent: "Cancel" });
    button.setAttribute("aria-label", `Cancel drop ${facts.number}`);
    button.addEventListener("click", () => cancel(facts.number));
    box.querySelector("progress").setAttribute("aria-label", `Drop ${facts.number}`);
    jobs.prepend(box);
  }
  const [now, share] = progress(facts), text = facts.name ? `${facts.name}: ${now}` : now;
  const over = facts.state === "done" || facts.state === "cancelled";
  const [line, button, bar, list] = box.children;
  if (line.textContent !== text) line.textContent = text;
  box.dataset.state = facts.state;
  button.hidden = bar.hidden = over;
  if (share === null) bar.removeAttribute("value"); else bar.value = share;
  const failures = [...facts.failures, ...(refused.get(facts.number) ?? [])];
  list.hidden = !failures.length;
  if (list.children.length !== failures.length) {
    list.replaceChildren(...failures.map((failure) => Object.assign(document.createElement("li"), { textContent: failure })));
  }
}
async function cancel(number) {
  const job = sending.get(number);
  if (job) {
    job.stopped = true;
    job.request?.abort();
  }
  await ask(`drops/${number}`, { method: "DELETE" }).catch((error) => say(error.message));
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  let busy = false;
  try {
    const state = await (await ask("state")).json();
    busy = state.drops.some((facts) => facts.state !== "done" && facts.state !== "cancelled");
    state.drops.forEach(show);
    const known = new Set(state.drops.map((facts) => `drop-${facts.number}`));
    for (const box of [...jobs.children]) if (!known.has(box.id)) box.remove();
    // The longer the list is, the less often it is asked for while scans come.
    const pause = busy ? 1000 + 10 * patients.tBodies[0].rows.length : 0;
    if (state.version !== version && performance.now() - fetched >= pause) {
      fetched = performance.now();
      if (version !== null) {
        const rows = await (await ask("rows")).text();
        patients.tBodies[0].innerHTML = rows;
        sortPatients();
      }
      version = state.version;
      byId("all").hidden = !patients.tBodies[0].rows.length;
      byId("empty").hidden = !byId("all").hidden;
    }
    say("");
  } catch (error) {
    say(`msanet serve does not answer (${error.message}). Start it again.`);
  }
  timer = setTimeout(refresh, busy ? 500 : 4000);
}

for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(await dropped(event.dataTransfer));
});
for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", () => {
    take([...byId(input).files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
    byId(input).value = "";
  });
}
drop.addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", async () => {
  if (!confirm("Remove all scans and results of this visit?")) return;
  await ask("scans", { method: "DELETE" }).catch((error) => say(error.message));
  refresh();
});
refresh();
