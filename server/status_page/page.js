"use strict";

const POLL_MS = 1000;
const WINDOW = 10;   // samples over which rates and latencies are taken
const HISTORY = 120; // samples, and seconds, of the charts

// A script that fails leaves a mark on the document that a reader, or a test, can see.
function failed(message) {
  const root = document.documentElement;
  root.dataset.scriptError = (root.dataset.scriptError || "") + String(message) + "\n";
}
window.addEventListener("error", event => failed(event.message));
window.addEventListener("unhandledrejection", event => failed(event.reason));

const at = id => document.getElementById(id);
const samples = [];

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count.toFixed(unit && count < 100 ? 1 : 0)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds === null) return "–";
  if (!isFinite(seconds)) return "> 60 s";
  return seconds < 1 ? `${Number((1000 * seconds).toPrecision(2))} ms` : `${seconds.toPrecision(3)} s`;
}

// Requests that failed between two samples.
function failedSince(now, then) {
  const failed = live => sum(live, "hvae_requests_total") - sum(live, "hvae_requests_total", {code: "OK"});
  return failed(now) - failed(then);
}

const rate = value => value === 0 ? "0" : value < 10 ? value.toFixed(1) : value.toFixed(0);

// Sum of the labelled values whose labels match.
function sum(live, name, labels = {}) {
  const wanted = Object.entries(labels);
  return (live[name] || [])
    .filter(entry => wanted.every(([key, value]) => entry[key] === value))
    .reduce((total, entry) => total + entry.value, 0);
}

const values = (live, name, label) => [...new Set((live[name] || []).map(entry => entry[label]))].sort();

// The quantile of a histogram between two samples: the upper edge of the bucket that holds it.
function quantile(now, then, name, labels, share) {
  const edges = values(now, `${name}_bucket`, "le").map(le => [le === "+Inf" ? Infinity : Number(le), le]);
  edges.sort((a, b) => a[0] - b[0]);
  const count = le => sum(now, `${name}_bucket`, {...labels, le}) - sum(then, `${name}_bucket`, {...labels, le});
  const all = count("+Inf");
  if (!(all > 0)) return null;
  return edges.find(([, le]) => count(le) >= share * all)[0];
}

function row(body, cells) {
  const tr = body.appendChild(document.createElement("tr"));
  for (const cell of cells) {
    const [text, kind] = Array.isArray(cell) ? cell : [cell, ""];
    const td = tr.appendChild(document.createElement("td"));
    td.textContent = text;
    td.className = kind;
  }
}

const marked = count => [count, count > 0 ? "bad" : ""];

function figure(list, name, value) {
  const div = list.appendChild(document.createElement("div"));
  div.appendChild(document.createElement("dt")).textContent = name;
  div.appendChild(document.createElement("dd")).textContent = value;
}

function showFigures(live, seconds, then) {
  const list = at("figures");
  list.replaceChildren();
  const change = name => Math.max(0, sum(live, name) - sum(then, name)) / seconds;
  figure(list, "items per second", rate(change("hvae_items_total")));
  figure(list, "received per second", bytes(change("hvae_received_bytes_total")));
  figure(list, "sent per second", bytes(change("hvae_sent_bytes_total")));
  const memory = live.hvae_memory_bytes ?? live.process_resident_memory_bytes;
  if (memory !== undefined) figure(list, "memory", bytes(memory));
  // What the server says of itself has no labels.
  for (const [name, value] of Object.entries(live)) {
    if (!name.startsWith("hvae_") || typeof value !== "number") continue;
    if (name === "hvae_memory_bytes" || name === "hvae_cpu_seconds_total") continue;
    const words = name.slice(5).replace(/_total$/, "").replaceAll("_", " ");
    figure(list, words, name.endsWith("_bytes") ? bytes(value) : String(Math.round(100 * value) / 100));
  }
  figure(list, "up", `${Math.floor(live.uptime_seconds / 3600)} h ${Math.floor(live.uptime_seconds / 60) % 60} min`);
}

function showMethods(live, seconds, then) {
  const body = at("methods");
  body.replaceChildren();
  for (const method of values(live, "hvae_requests_total", "method")) {
    const change = name => (sum(live, name, {method}) - sum(then, name, {method})) / seconds;
    const all = sum(live, "hvae_requests_total", {method});
    const failures = all - sum(live, "hvae_requests_total", {method, code: "OK"});
    const failedItems = sum(live, "hvae_items_total", {method}) - sum(live, "hvae_items_total", {method, code: "OK"});
    row(body, [
      method, rate(change("hvae_requests_total")), rate(change("hvae_items_total")),
      duration(quantile(live, then, "hvae_request_duration_seconds", {method}, 0.5)),
      duration(quantile(live, then, "hvae_request_duration_seconds", {method}, 0.95)),
      sum(live, "hvae_calls_in_flight", {method}), all, marked(failures), marked(failedItems),
    ]);
  }
}

function showModels(live) {
  const body = at("batches");
  body.replaceChildren();
  for (const model of values(live, "hvae_batch_items_count", "model")) {
    for (const kind of values(live, "hvae_batch_items_count", "kind")) {
      const labels = {model, kind};
      const batches = sum(live, "hvae_batch_items_count", labels);
      if (!batches) continue;
      const items = sum(live, "hvae_batch_items_sum", labels);
      const encoded = sum(live, "hvae_encoded_bytes_total", labels);
      const ratio = encoded ? `${(sum(live, "hvae_image_bytes_total", labels) / encoded).toFixed(1)} : 1` : "–";
      row(body, [
        model, kind, batches, items, (items / batches).toFixed(1),
        sum(live, "hvae_batch_duration_seconds_sum", labels).toFixed(1),
        ...[0.5, 0.95].map(share => duration(quantile(live, {}, "hvae_batch_duration_seconds", labels, share))),
        ratio,
      ]);
    }
  }
}

function showFailures(failures) {
  const body = at("errors");
  body.replaceChildren();
  for (const each of failures) {
    const when = new Date(1000 * each.time).toLocaleTimeString("en-GB");
    row(body, [when, [each.method, "text"], [each.code, "text bad"], each.count, [each.message, "text"]]);
  }
  at("none").hidden = failures.length > 0;
  at("failed").hidden = failures.length === 0;
}

// The least of 1, 2 and 5 times a power of ten that makes at most four steps to `most`.
function tickStep(most) {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  return [1, 2, 5, 10].map(factor => factor * power).find(step => most / step <= 4);
}

// Draw values by their age in seconds, with axes; `marks` are ages with a failure.
function draw(svg, points, marks, joined) {
  const [width, height] = [svg.clientWidth || 600, svg.clientHeight || 150];
  const [left, right, top, bottom] = [52, 14, 10, 24];
  const step = tickStep(Math.max(...points.map(([, value]) => value), 1));
  const most = step * Math.max(1, Math.ceil(Math.max(...points.map(([, value]) => value), 0) / step));
  const x = age => width - right - (width - left - right) * age / HISTORY;
  const y = value => height - bottom - (height - top - bottom) * value / most;
  const add = (name, attributes, text = "") => {
    const made = svg.appendChild(document.createElementNS(svg.namespaceURI, name));
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
  };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  for (let value = 0; value <= most * 1.001; value += step) {
    add("line", {x1: left, x2: width - right, y1: y(value), y2: y(value), class: value ? "" : "axis"});
    add("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end"}, String(Number(value.toPrecision(3))));
  }
  for (let age = 0; age <= HISTORY; age += 30) {
    add("line", {x1: x(age), x2: x(age), y1: height - bottom, y2: height - bottom + 4, class: "axis"});
    add("text", {x: x(age), y: height - 6, "text-anchor": age ? "middle" : "end"}, age ? `−${age} s` : "now");
  }
  if (joined) add("polyline", {points: points.map(([age, value]) => `${x(age)},${y(value)}`).join(" ")});
  else for (const [age, value] of points) add("circle", {cx: x(age), cy: y(value), r: 2.5});
  for (const age of marks) {
    const [cx, cy] = [x(age), height - bottom];
    add("path", {d: `M${cx - 4} ${cy} L${cx + 4} ${cy} L${cx} ${cy - 8} Z`, class: "failure"});
  }
}

function showCharts() {
  const rates = [], delays = [], failures = [];
  const last = samples[samples.length - 1].when;
  for (let i = 1; i < samples.length; i += 1) {
    const [now, then] = [samples[i], samples[i - 1]];
    const age = (last - now.when) / 1000;
    if (age > HISTORY) continue;
    const items = sum(now.live, "hvae_items_total") - sum(then.live, "hvae_items_total");
    rates.push([age, Math.max(0, items) / ((now.when - then.when) / 1000)]);
    const delay = quantile(now.live, then.live, "hvae_request_duration_seconds", {}, 0.95);
    if (delay !== null) delays.push([age, 1000 * Math.min(delay, 60)]);
    if (failedSince(now.live, then.live) > 0) failures.push(age);
  }
  at("most").textContent = rate(Math.max(...rates.map(([, value]) => value), 0));
  draw(at("rates"), rates, failures, true);
  draw(at("delays"), delays, failures, false);
}

function show() {
  const now = samples[samples.length - 1];
  const then = samples[Math.max(0, samples.length - 1 - WINDOW)];
  const seconds = Math.max(0.001, (now.when - then.when) / 1000);
  showFigures(now.live, seconds, then.live);
  showMethods(now.live, seconds, then.live);
  showModels(now.live);
  showFailures(now.live.failures);
  showCharts();
}

function state(text, bad) {
  at("state").textContent = text;
  at("state").classList.toggle("bad", bad);
}

async function poll() {
  try {
    const response = await fetch("live", {signal: AbortSignal.timeout(5000)});
    if (!response.ok) throw new Error(response.statusText);
    const live = await response.json();
    const last = samples[samples.length - 1];
    if (last && live.uptime_seconds < last.live.uptime_seconds) samples.length = 0; // another process
    samples.push({when: performance.now(), live});
    if (samples.length > HISTORY + 1) samples.shift();
    state(live.serving ? "serving" : "not serving", !live.serving);
    show();
    document.documentElement.dataset.polls = String(1 + Number(document.documentElement.dataset.polls || 0));
  } catch (error) {
    state(`no answer (${error.message})`, true);
  }
  setTimeout(poll, POLL_MS);
}

async function listModels() {
  const answer = await (await fetch("models")).json();
  const select = at("model");
  const option = (value, text) => {
    const made = select.appendChild(document.createElement("option"));
    made.value = value;
    made.textContent = text;
  };
  option("auto", "auto");
  for (const name of new Set(answer.models.map(model => model.name))) {
    const levels = answer.models.filter(model => model.name === name);
    const range = levels[0].continuous ? "1 to 100" : levels.map(model => model.quality).join(", ");
    option(name, `${name} (${range})`);
  }
  at("token-choice").hidden = !answer.token;
  at("drop").dataset.bytes = answer.bytes;
}

let shown = null;

function showResult(file, answer) {
  const original = at("original"), decoded = at("decoded");
  if (shown) URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(file);
  decoded.onload = () => {
    const small = Math.max(decoded.naturalWidth, decoded.naturalHeight) <= 128;
    for (const each of [original, decoded]) each.classList.toggle("small", small);
    const samplesBytes = 3 * decoded.naturalWidth * decoded.naturalHeight;
    at("original-text").textContent = `${file.name}: ${file.size.toLocaleString("en")} bytes`;
    at("decoded-text").textContent = `${answer.model}: ${answer.bytes.toLocaleString("en")} bytes`;
    const body = at("costs");
    body.replaceChildren();
    row(body, ["Size", `${decoded.naturalWidth} × ${decoded.naturalHeight}`]);
    row(body, ["Bytes", answer.bytes.toLocaleString("en")]);
    row(body, ["Bytes without the header", answer.payload_bytes.toLocaleString("en")]);
    row(body, ["Samples to bytes", `${(samplesBytes / answer.bytes).toFixed(1)} : 1`]);
    const layers = answer.rates_nats.length;
    answer.rates_nats.forEach((nats, i) => row(body, [`R(z${layers - i})`, `${nats.toFixed(2)} nats`]));
    row(body, ["PSNR", answer.psnr_db === null ? "equal" : `${answer.psnr_db.toFixed(2)} dB`]);
    at("result").hidden = false;
  };
  original.src = shown;
  decoded.src = answer.image;
}

async function evaluate(file) {
  at("error").textContent = "";
  const most = Number(at("drop").dataset.bytes);
  if (file.size > most) {
    at("error").textContent = `${file.name} has ${file.size} bytes, allowed are ${most}`;
    return;
  }
  const query = new URLSearchParams({model: at("model").value || "auto", quality: at("quality").value});
  const headers = {"Content-Type": "application/octet-stream"};
  if (at("token").value) headers.Authorization = `Bearer ${at("token").value}`;
  try {
    const response = await fetch(`evaluate?${query}`, {method: "POST", headers, body: file});
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    showResult(file, answer);
  } catch (error) {
    at("error").textContent = error.message;
  }
}

const drop = at("drop");
for (const name of ["dragover", "drop"]) {
  // A file that misses the field would otherwise replace the page.
  window.addEventListener(name, event => event.preventDefault());
}
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", event => {
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) evaluate(event.dataTransfer.files[0]);
});
at("file").addEventListener("change", event => {
  if (event.target.files.length) evaluate(event.target.files[0]);
  event.target.value = "";
});
at("choices").addEventListener("submit", event => event.preventDefault());
listModels();
poll();
