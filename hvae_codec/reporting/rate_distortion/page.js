// Curves of the codecs, and two of them side by side on an image at equal bytes.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const TIMES = ["encode_ms", "decode_ms"];

function fill(select, names, chosen) {
  select.replaceChildren(...names.map((name, value) => new Option(name, value)));
  select.value = chosen;
}

// Ticks of a logarithmic axis at round numbers, as many as can be read beside each other.
function ticks(values) {
  const least = Math.min(...values), most = Math.max(...values);
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power++) {
      for (const step of steps) {
        const value = Number((step * 10 ** power).toPrecision(2));
        if (value >= least / 1.1 && value <= most * 1.1) found.push(value);
      }
    }
    if (found.length >= 5 || steps.length > 3) return found;
  }
}

function axis(title, values) {
  const style = getComputedStyle(document.documentElement);
  const shape = {title: {text: title}, gridcolor: style.getPropertyValue("--line"), zeroline: false, ticks: "outside"};
  if (values === null) return shape;
  const at = ticks(values);
  return {...shape, type: "log", tickvals: at, ticktext: at.map(String), minor: {showgrid: false}};
}

// Bits per pixel of the images that have a measure: where only some have it, theirs.
const rate = (row, key) => row[`${key}_bits_per_pixel`] ?? row.bits_per_pixel;

// The rows of a curve that no other of its rows beats in both; of times all, in order of bytes.
function onCurve(curve, key) {
  const rows = curve.rows.filter(row => row[key] !== null);
  rows.sort((a, b) => rate(a, key) - rate(b, key) || b[key] - a[key]);
  if (TIMES.includes(key)) return rows;
  let best = -Infinity;
  return rows.filter(row => row[key] > best && (best = row[key], true));
}

function drawCurves() {
  const measure = data.measures[byId("measure").value], shared = byId("use").value === "shared";
  const curves = data.curves.filter(curve => curve.shared === shared);
  const rowsOf = curve => onCurve(curve, measure.key);
  const all = curves.flatMap(rowsOf), timed = TIMES.includes(measure.key);
  const traces = curves.map(curve => ({
    type: "scatter", mode: "lines+markers", name: curve.name,
    x: rowsOf(curve).map(row => rate(row, measure.key)), y: rowsOf(curve).map(row => row[measure.key]),
    text: rowsOf(curve).map(row => {
      const setting = row.quality !== undefined ? `quality ${row.quality}` : `setting ${row.setting}`;
      return `${setting}<br>${row.file_bytes.toLocaleString("en")} B, ${row.bits_per_pixel} bits/pixel<br>${row[measure.key]}`;
    }),
    hovertemplate: "%{text}",
    line: {color: curve.colour, width: curve.ours ? 3.5 : 1.8},
    marker: {size: curve.ours ? 8 : 6},
  }));
  const style = getComputedStyle(document.documentElement), text = style.getPropertyValue("--text");
  byId("caption").textContent = `${measure.label} over bits per pixel`;
  return Plotly.react("plot", traces, {
    xaxis: axis("bits per pixel (whole file)", all.map(row => rate(row, measure.key))),
    yaxis: axis(measure.label, timed ? all.map(row => Math.max(row[measure.key], 1e-3)) : null),
    legend: {orientation: "h", y: -0.16, x: 0},
    font: {color: text, size: 14}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: {l: 70, r: 20, t: 12, b: 60}, hovermode: "closest",
  }, {responsive: true, displaylogo: false, displayModeBar: false});
}

const scene = () => data.views[byId("scene").value];
const budget = () => scene().budgets[byId("budget").value];
const choices = () => [{codec: "original", source: scene().original}, ...budget().views];

function caption(element, view) {
  const over = view.bytes !== undefined && view.bytes > budget().bytes;
  const psnr = view.psnr === null ? "exact" : `${view.psnr} dB`;
  const coarsest = over ? ", above the limit at its coarsest setting" : "";
  element.textContent = view.bytes === undefined ? view.codec
    : `${view.codec}: ${view.bytes.toLocaleString("en")} B, ${psnr}${coarsest}`;
  element.classList.toggle("over-budget", over);
}

function drawPair() {
  const left = choices()[byId("left").value], right = choices()[byId("right").value];
  byId("over").src = left.source; byId("over").alt = left.codec;
  byId("under").src = right.source; byId("under").alt = right.codec;
  caption(byId("left-caption"), left); caption(byId("right-caption"), right);
  slide();
}

function slide() {
  const share = byId("slide").value;
  byId("over").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  byId("line").style.left = `${share}%`;
}

// Codecs and bytes stay chosen when another image is.
function openScene() {
  const [b, l, r] = ["budget", "left", "right"].map(id => byId(id).value || null);
  fill(byId("budget"), scene().budgets.map(one => `${one.bytes.toLocaleString("en")} B`), 0);
  byId("budget").value = b ?? 0;
  fill(byId("left"), choices().map(view => view.codec), l ?? 1);
  const models = new Set(data.curves.filter(curve => curve.ours).map(curve => curve.name));
  const peer = choices().findIndex((view, index) => index > 0 && !models.has(view.codec));
  fill(byId("right"), choices().map(view => view.codec), r ?? Math.max(peer, 0));
  drawPair();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  return drawCurves();
}

fill(byId("measure"), data.measures.map(one => one.label), 0);
byId("use-choice").hidden = !data.curves.some(curve => curve.shared);
for (const id of ["measure", "use"]) byId(id).addEventListener("change", drawCurves);
byId("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
byId("views").hidden = data.views.length === 0;
if (data.views.length) {
  fill(byId("scene"), data.views.map(one => one.label), 0);
  byId("scene").addEventListener("change", openScene);
  for (const id of ["budget", "left", "right"]) byId(id).addEventListener("change", drawPair);
  byId("slide").addEventListener("input", slide);
  byId("stack").addEventListener("pointermove", event => {
    const box = byId("stack").getBoundingClientRect();
    byId("slide").value = 100 * (event.clientX - box.left) / box.width;
    slide();
  });
  openScene();
}
const dark = matchMedia("(prefers-color-scheme: dark)");
setTheme(dark.matches ? "dark" : "light").then(() => {
  document.documentElement.dataset.drawn = "yes";
});
