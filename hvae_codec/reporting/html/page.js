// The chosen model's card, tables, legend and address, and the choices of a reader.
function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

function rowsOf(pairs) {
  const body = element("tbody", {}, ...pairs.map(([name, value]) =>
    element("tr", {}, element("th", {textContent: name, scope: "row"}), element("td", {textContent: value}))));
  return element("table", {}, body);
}

function drawCard() {
  const s = sweep(), model = s.models[state.model], marks = [];
  for (const o of s.optima) if (o.model === state.model) marks.push(`best ${o.application}`);
  if (s.vae && s.vae.model === state.model) marks.push(s.vae.exact ? "VAE" : "nearest to a VAE");
  if (s.betaVaes.includes(state.model)) marks.push("β-VAE");
  if ((s.hull[metric().key] || []).includes(state.model)) marks.push(`on the hull of ${metric().label}`);
  const strips = element("div", {className: "strips"});
  const strip = (name, source) => strips.append(
    element("span", {className: "caption", textContent: name}),
    element("img", {src: source, alt: `${name}, model ${model.name}`}));
  if (s.originals && model.picture) strip("originals", s.originals);
  if (model.picture) strip("reconstructions above, samples from the prior below", model.picture);
  else strips.append(element("span", {className: "caption", textContent: "no pictures of this model"}));
  byId("card").replaceChildren(
    element("h2", {textContent: `Model ${model.name}`}),
    element("p", {textContent: marks.join(", ") || "\u00a0"}),
    strips,
    rowsOf([
      ["β₂, β₁", model.betas.map(beta).join(", ")],
      ["R(z₂)", number(model.rates[0], 2) + " nats"],
      ["R(z₁|z₂)", number(model.rates[1], 2) + " nats"],
      ["total rate", number(model.total, 2) + " nats"],
      ...offered().map(m => [m.label, shown(model, m)]),
    ]));
  byId("card").dataset.model = model.name;
}

function drawLegend() {
  const s = sweep(), vae = s.vae && s.models[s.vae.model];
  const entries = [
    ...s.optima.map(o => [SYMBOLS[o.application], "text", `best ${o.application}`]),
    ["○", "hull", "optimal for its total rate"],
    ...(s.betaVaes.length ? [["○", "beta-vae", "β-VAE (β₂ = β₁)"]] : []),
    ...(vae ? [["◯", "vae", s.vae.exact ? "VAE (β₂ = β₁ = 1)"
      : `nearest to a VAE (β₂ ${beta(vae.betas[0])}, β₁ ${beta(vae.betas[1])})`]] : []),
    ...(s.alone.length ? [["●", "quiet", "models trained for one choice of betas each"]] : []),
    ["□", "chosen", "chosen model"],
  ];
  byId("legend").replaceChildren(...entries.map(([symbol, name, text]) => {
    const mark = element("b", {textContent: symbol, ariaHidden: "true"});
    mark.style.color = `var(--${name})`;
    return element("li", {}, mark, " " + text);
  }));
}

function drawOptima() {
  const s = sweep(), named = key => data.metrics.find(m => m.key === key);
  const columns = [...new Set(s.optima.map(o => o.metric))].map(named);
  const extra = s.vae ? [{application: s.vae.exact ? "VAE" : "nearest to a VAE", model: s.vae.model}] : [];
  const head = ["", "model", "β₂", "β₁", "R(z₂)", "R(z₁|z₂)", ...columns.map(m => m.label)];
  const rows = [...s.optima, ...extra].map(o => {
    const model = s.models[o.model];
    const go = element("button", {type: "button", textContent: model.name});
    go.addEventListener("click", () => choose(o.model));
    const cells = [...model.betas.map(beta), ...model.rates.map(r => number(r, 1) + " nats"),
      ...columns.map(m => shown(model, m))];
    const name = (SYMBOLS[o.application] ? SYMBOLS[o.application] + " " : "") + o.application;
    return element("tr", {}, element("th", {textContent: name, scope: "row"}), element("td", {}, go),
      ...cells.map(cell => element("td", {textContent: cell})));
  });
  byId("optima").replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...head.map(h => element("th", {textContent: h, scope: "col"})))),
    element("tbody", {}, ...rows)));
}

function drawWords() {
  const s = sweep(), name = metric().label;
  const missing = s.missing ? ` Models missing: ${s.missing}.` : "";
  const models = s.plane ? `one model at ${s.models.length} choices of betas` : `${s.models.length} models`;
  byId("summary").textContent = `${s.title}: ${models}.${missing}`;
  byId("caption-surface").textContent = `${name} over the rates of both layers`;
  byId("caption-landscape").textContent = `${name} over the betas`;
  byId("caption-plane").textContent = `${name} in the plane of rates`;
  byId("caption-total").textContent = `${name} over the total rate`;
}

function remember() {
  const place = [sweep().name, metric().key, sweep().models[state.model].name];
  history.replaceState(null, "", "#" + place.map(encodeURIComponent).join("/"));
}

// Moves the mark of the chosen model; a plot that is being hovered need not be drawn anew.
function choose(model, hovered) {
  if (model === state.model) return;
  state.model = model;
  drawCard();
  for (const id of PLOTS) {
    const div = byId(id), last = div.data.length - 1, has = present().includes(model);
    if (id === hovered && id === "plot-surface") continue;
    const chosen = sweep().models[model];
    const at = id === "plot-surface"
      ? {x: chosen.rates[0], y: chosen.rates[1], z: chosen.values[metric().key]}
      : {x: VIEWS[id].x(chosen), y: VIEWS[id].y(chosen)};
    const update = Object.fromEntries(Object.entries(at).map(([k, v]) => [k, [has ? [v] : []]]));
    Plotly.restyle(div, update, [last]);
  }
  if (!hovered) remember();
}

async function drawAll() {
  drawWords(); drawLegend(); drawOptima(); drawCard();
  await Promise.all([drawSurface(), ...FLAT.map(drawFlat)]);
  for (const id of PLOTS) {
    const div = byId(id);
    if (div.dataset.listening) continue;
    div.dataset.listening = "yes";
    div.on("plotly_hover", event => {
      const model = event.points[0].customdata;
      if (model !== undefined) choose(model, id);
    });
    div.on("plotly_click", remember);
  }
  byId("plot-surface").on("plotly_relayout", event => {
    if (event["scene.camera"]) state.eye = event["scene.camera"].eye;
  });
  document.documentElement.dataset.drawn = `${sweep().name} ${metric().key}`;
}

function fill(select, names, chosen) {
  select.replaceChildren(...names.map((name, i) => element("option", {value: i, textContent: name})));
  select.value = chosen;
}

function openSweep(index, key) {
  state.sweep = index;
  state.metric = Math.max(0, offered().findIndex(m => m.key === key));
  state.model = sweep().optima.length ? sweep().optima[0].model : 0;
  fill(byId("metric"), offered().map(m => m.label), state.metric);
}

// Keys: the nearest model in the direction of an arrow, along the axes of the focused plot.
function step(id, dx, dy) {
  const view = VIEWS[id], models = present(), scale = view.log && logBetas() ? Math.log : v => v;
  const place = i => [scale(view.x(sweep().models[i])), scale(view.y(sweep().models[i]))];
  const all = models.map(place), span = d => Math.max(...all.map(p => p[d])) - Math.min(...all.map(p => p[d])) || 1;
  const spans = [span(0), span(1)], here = place(state.model);
  let found = null, least = Infinity;
  for (const i of models) {
    const there = place(i), x = (there[0] - here[0]) / spans[0], y = (there[1] - here[1]) / spans[1];
    const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
    if (along > 1e-6 && along + 3 * across < least) { found = i; least = along + 3 * across; }
  }
  if (found !== null) choose(found);
}

function turnBy(angle, rise) {
  const {x, y, z} = state.eye, cos = Math.cos(angle), sin = Math.sin(angle);
  state.eye = {x: x * cos - y * sin, y: x * sin + y * cos, z: Math.min(2.2, Math.max(-0.5, z + rise))};
  Plotly.relayout(byId("plot-surface"), {"scene.camera.eye": state.eye});
}

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1]};
for (const id of PLOTS) {
  byId(id).addEventListener("keydown", event => {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    if (id === "plot-surface") turnBy(arrow[0] * 0.15, arrow[1] * 0.12);
    else step(id, ...arrow);
  });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  if (byId("plot-surface").data) drawAll();
}

byId("sweep").addEventListener("change", event => {
  openSweep(Number(event.target.value), metric().key);
  drawAll().then(remember);
});
byId("metric").addEventListener("change", event => {
  state.metric = Number(event.target.value);
  drawAll().then(remember);
});
byId("turn").addEventListener("click", event => {
  clearInterval(state.turning);
  state.turning = state.turning ? null : setInterval(() => turnBy(0.02, 0), 60);
  event.target.setAttribute("aria-pressed", String(state.turning !== null));
});
byId("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
let waiting = null;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 200); });

// The address may name a sweep, a metric and a model.
const [name, key, model] = location.hash.slice(1).split("/").map(decodeURIComponent);
setTheme(dark.matches ? "dark" : "light");
openSweep(Math.max(0, data.sweeps.findIndex(s => s.name === name)), key);
const asked = sweep().models.findIndex(m => m.name === model);
if (asked >= 0) state.model = asked;
fill(byId("sweep"), data.sweeps.map(s => `${s.name}: ${s.title}`), state.sweep);
byId("sweep-choice").hidden = data.sweeps.length < 2;
drawAll();
