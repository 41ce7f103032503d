// Draws the chosen sweep and metric into four plots that share one chosen model.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const SYMBOLS = {reconstruction: "▲", generation: "◆", representation: "★"};
const SHAPES = {reconstruction: "triangle-up", generation: "diamond", representation: "star"};
const PLOTS = ["plot-surface", "plot-landscape", "plot-plane", "plot-total"];
const FLAT = PLOTS.slice(1);
const TOP = "R(z₂), nats", BOTTOM = "R(z₁|z₂), nats";
const state = {sweep: 0, metric: 0, model: 0, turning: null, eye: {x: -1.6, y: -1.85, z: 0.95}};

const sweep = () => data.sweeps[state.sweep];
const offered = () => data.metrics.filter(m => sweep().models.some(x => m.key in x.values));
const metric = () => offered()[state.metric];
const colour = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const pick = (indices, of) => indices.map(i => of(sweep().models[i]));
const number = (value, decimals) => value.toFixed(decimals);
const beta = value => Number(value.toPrecision(3)).toString();

function shown(model, m) {
  const value = model.values[m.key];
  return value === undefined ? "not measured" : number(value, m.decimals) + (m.unit ? " " + m.unit : "");
}

// Models that have the metric, as indices into the sweep's models.
function present() {
  return sweep().models.map((_, i) => i).filter(i => metric().key in sweep().models[i].values);
}

// Models trained for one choice of betas each, beside one model for all of them.
const alone = () => sweep().alone.filter(m => metric().key in m.values);

function label(model, name = `model ${model.name}`) {
  const [top, bottom] = model.betas;
  return `${name}<br>β₂ ${beta(top)}, β₁ ${beta(bottom)}<br>` +
    `R(z₂) ${number(model.rates[0], 1)}, R(z₁|z₂) ${number(model.rates[1], 1)} nats<br>` +
    `${metric().label}: ${shown(model, metric())}`;
}

const VIEWS = {
  "plot-landscape": {x: m => m.betas[0], y: m => m.betas[1], xTitle: "β₂", yTitle: "β₁", log: true},
  "plot-plane": {x: m => m.rates[0], y: m => m.rates[1], xTitle: TOP, yTitle: BOTTOM},
  "plot-total": {x: m => m.total, y: m => m.values[metric().key], xTitle: "total rate R, nats"},
};

const valueTitle = () => metric().label + (metric().unit ? ", " + metric().unit : "");
const logBetas = () => sweep().models.every(m => m.betas.every(b => b > 0));

// Marks common to all views: lists of models, each with a name, a colour and a ring's size.
function rings() {
  const has = new Set(present()), s = sweep();
  const keep = list => list.filter(i => has.has(i));
  const found = [
    {models: keep(s.hull[metric().key] || []), colour: colour("hull"), size: 13},
    {models: keep(s.betaVaes), colour: colour("beta-vae"), size: 8},
  ];
  if (s.vae) found.push({models: keep([s.vae.model]), colour: colour("vae"), size: 18});
  return found;
}

function layout(extra) {
  return Object.assign({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    margin: {l: 58, r: 10, t: 10, b: 46}, font: {color: colour("text"), size: 12},
    hoverlabel: {align: "left"}, hovermode: "closest", uirevision: "same",
  }, extra);
}

function axis(title, extra) {
  return Object.assign({
    title: {text: title, standoff: 6}, gridcolor: colour("line"), zeroline: false,
    linecolor: colour("line"), tickcolor: colour("line"), automargin: true,
  }, extra);
}

function limits() {
  const all = [...pick(present(), m => m), ...alone()].map(m => m.values[metric().key]);
  return {cmin: Math.min(...all), cmax: Math.max(...all)};
}

function coloured(models, extra) {
  return Object.assign({
    color: models.map(m => m.values[metric().key]), colorscale: "Viridis",
    reversescale: !metric().higher, ...limits(),
  }, extra);
}

function dotsOfAlone(type, at, size) {
  return {
    type, mode: "markers", ...at(alone()), hoverinfo: "text",
    text: alone().map(m => label(m, `trained for its betas alone (model ${m.name})`)),
    marker: coloured(alone(), {size, line: {color: colour("text"), width: 1.5}}),
  };
}

const BAR = () => ({thickness: 12, outlinewidth: 0, len: 0.95, tickfont: {color: colour("text")}});

function triangles(models) {
  const place = new Map(models.map((model, at) => [model, at]));
  const i = [], j = [], k = [];
  for (const all of sweep().cells) {
    const corners = all.filter(c => place.has(c)).map(c => place.get(c));
    if (corners.length < 3) continue;
    i.push(corners[0]); j.push(corners[1]); k.push(corners[2]);
    if (corners.length === 4) { i.push(corners[0]); j.push(corners[2]); k.push(corners[3]); }
  }
  return {i, j, k};
}

function drawSurface() {
  const models = present(), faces = triangles(models);
  const atModels = list => ({
    x: list.map(m => m.rates[0]), y: list.map(m => m.rates[1]),
    z: list.map(m => m.values[metric().key]),
  });
  const at = indices => atModels(pick(indices, m => m));
  const traces = [];
  if (faces.i.length) {
    traces.push({
      type: "mesh3d", ...at(models), ...faces, intensity: at(models).z, colorscale: "Viridis",
      reversescale: !metric().higher, ...limits(), opacity: 0.92, hoverinfo: "skip", showscale: false,
      lighting: {ambient: 0.85, diffuse: 0.35, specular: 0.05},
    });
  }
  traces.push({
    type: "scatter3d", mode: "markers", ...at(models), customdata: models,
    text: models.map(i => label(sweep().models[i])), hoverinfo: "text",
    marker: coloured(pick(models, m => m), {size: faces.i.length ? 3.2 : 6, line: {width: 0}}),
  });
  if (alone().length) traces.push(dotsOfAlone("scatter3d", atModels, 5));
  for (const ring of rings()) {
    traces.push({
      type: "scatter3d", mode: "markers", ...at(ring.models), hoverinfo: "skip",
      marker: {symbol: "circle-open", size: ring.size * 0.5, color: ring.colour, line: {width: 2}},
    });
  }
  const best = sweep().optima.filter(o => models.includes(o.model));
  traces.push({
    type: "scatter3d", mode: "text", ...at(best.map(o => o.model)), hoverinfo: "skip",
    text: best.map(o => SYMBOLS[o.application]), textfont: {size: 20, color: colour("text")},
  });
  traces.push({
    type: "scatter3d", mode: "markers", ...at([state.model].filter(i => models.includes(i))),
    hoverinfo: "skip", marker: {symbol: "circle", size: 7, color: colour("chosen")},
  });
  const flat = title => axis(title, {backgroundcolor: colour("raised"), showbackground: true, automargin: false});
  const height = byId("plot-surface").clientWidth < 420 ? metric().unit : valueTitle();
  const scene = {
    xaxis: flat(TOP), yaxis: flat(BOTTOM), zaxis: flat(height), camera: {eye: state.eye},
    aspectmode: "cube",
  };
  return draw("plot-surface", traces, layout({scene, margin: {l: 0, r: 0, t: 0, b: 0}}));
}

function totals(models) {
  const x = pick(models, m => m.rates[0]), y = pick(models, m => m.rates[1]);
  const all = pick(models, m => m.total), low = Math.min(...all), high = Math.max(...all);
  const step = niceStep((high - low) / 6), lines = [];
  const [left, right, down, up] = [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
  for (let total = Math.ceil(low / step) * step; total <= high; total += step) {
    const start = Math.max(left, total - up), end = Math.min(right, total - down);
    if (start >= end) continue;
    lines.push({
      type: "line", layer: "below", x0: start, y0: total - start, x1: end, y1: total - end,
      line: {color: colour("quiet"), width: 1, dash: "dash"},
      label: {
        text: `R = ${number(total, 0)}`, textposition: "end", yanchor: "bottom",
        font: {size: 10, color: colour("quiet")},
      },
    });
  }
  return lines;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  return [1, 2, 2.5, 5, 10].map(n => n * power).find(n => n >= rough) || power;
}

// Sides of the squares that stand for a grid's models.
function squares(id) {
  const count = layer => new Set(sweep().models.map(m => m.betas[layer].toPrecision(3))).size;
  const {clientWidth, clientHeight} = byId(id);
  return Math.max(5, 0.72 * Math.min((clientWidth - 150) / count(0), (clientHeight - 70) / count(1)));
}

function drawFlat(id) {
  const view = VIEWS[id], models = present(), logarithmic = view.log && logBetas();
  const isGrid = id === "plot-landscape" && sweep().grid;
  const marker = isGrid ? {symbol: "square", size: squares(id)} : {size: 8};
  const traces = [{
    type: "scatter", mode: "markers", x: pick(models, view.x), y: pick(models, view.y),
    customdata: models, text: models.map(i => label(sweep().models[i])), hoverinfo: "text",
    marker: coloured(pick(models, m => m), {...marker, line: {width: 0}, showscale: true, colorbar: BAR()}),
  }];
  if (alone().length) {
    const at = list => ({x: list.map(view.x), y: list.map(view.y)});
    traces.push(dotsOfAlone("scatter", at, isGrid ? Math.max(8, 0.4 * marker.size) : 8));
  }
  if (view.log && sweep().betaVaes.length > 1) {
    const [first, last] = [sweep().betaVaes[0], sweep().betaVaes.at(-1)];
    traces.push({
      type: "scatter", mode: "lines", x: pick([first, last], view.x), y: pick([first, last], view.y),
      hoverinfo: "skip", line: {color: colour("beta-vae"), dash: "dash", width: 1.5},
    });
  }
  for (const [order, ring] of rings().entries()) {
    traces.push({
      type: "scatter", mode: id === "plot-total" && order === 0 ? "lines+markers" : "markers",
      x: pick(ring.models, view.x), y: pick(ring.models, view.y), hoverinfo: "skip",
      line: {color: ring.colour, width: 1.3},
      marker: {symbol: "circle-open", size: ring.size, color: ring.colour, line: {width: 2.2}},
    });
  }
  const best = sweep().optima.filter(o => models.includes(o.model));
  traces.push({
    type: "scatter", mode: "markers", hoverinfo: "skip",
    x: pick(best.map(o => o.model), view.x), y: pick(best.map(o => o.model), view.y),
    marker: {
      opacity: 1, symbol: best.map(o => SHAPES[o.application]), color: colour("halo"),
      size: best.map(o => o.application === "representation" ? 16 : 13),
      line: {color: colour("text"), width: 1.6},
    },
  });
  const chosen = [state.model].filter(i => models.includes(i));
  traces.push({
    type: "scatter", mode: "markers", x: pick(chosen, view.x), y: pick(chosen, view.y),
    hoverinfo: "skip",
    marker: {symbol: "square-open", size: 22, color: colour("chosen"), line: {width: 3}},
  });
  const scale = logarithmic ? {type: "log", dtick: 1, minor: {ticks: "outside", dtick: "D1"}} : {};
  return draw(id, traces, layout({
    xaxis: axis(view.xTitle, scale), yaxis: axis(view.yTitle || valueTitle(), scale),
    shapes: id === "plot-plane" ? totals(models) : [],
  }));
}

function draw(id, traces, shape) {
  return Plotly.react(byId(id), traces, shape, {responsive: true, displaylogo: false, displayModeBar: false});
}
