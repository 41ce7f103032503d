"""The command: its files, its page in a real browser, and what it says when things are missing."""

import json
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from hvae_codec.cli import main
from hvae_codec.errors import EvaluationError
from hvae_codec.reporting.figures.figures3to9 import drawings
from hvae_codec.reporting.html.page import make_page
from hvae_codec.reporting.html.strips import folded, read_strip
from hvae_codec.reporting.results import read_sweep

BROWSER_SECONDS = 120
NOTHING = {
    "inception_score": None,
    "diversity": None,
    "sharpness": None,
    "classifier": None,
    "accuracy": None,
    "bounds": None,
    "information_nats": None,
}


@pytest.fixture
def bare(make, grid_of, tmp_path):
    """A sweep without labels, classifier and pictures."""
    return make(tmp_path / "bare", grid_of(2), change=lambda r: r | NOTHING, pictures=False)


def test_a_sweep_with_everything_leaves_no_figure_out(sweep_folder):
    sweep = read_sweep(sweep_folder)
    assert {d.name: d.lacks(sweep) for d in drawings(sweep)} == dict.fromkeys(
        ("fig1", "fig1-surfaces", "fig3", "fig4", "fig5", "fig6", "fig7", "all-metrics")
    )


@pytest.mark.parametrize(
    ("spec", "data", "name"),
    [("ghvae-28x28x1", "MNIST", "fig8"), ("lvae-32x32x3", "CIFAR-10", "fig9")],
)
def test_all_metrics_bear_the_number_that_the_paper_gives_them(
    make, grid_of, tmp_path, spec, data, name
):
    folder = make(tmp_path / "a", grid_of(2), spec=spec, change=lambda r: r | {"data": data})
    assert drawings(read_sweep(folder))[-1].name == name


def test_what_cannot_be_drawn_is_named_and_the_rest_is_written(bare, capsys):
    assert main(["report", str(bare), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    left_out = result["left_out"]
    assert set(left_out) == {f"bare-fig{n}" for n in ("1", "1-surfaces", "4", "5", "6", "7")}
    assert left_out["bare-fig4"] == "its models have no images"
    assert "Inception Score" in left_out["bare-fig5"]
    written = sorted(path.name for path in (bare / "report").iterdir())
    assert written == [
        "bare-all-metrics.png",
        "bare-all-metrics.svg",
        "bare-fig3.png",
        "bare-fig3.svg",
        "report.html",
        "table1.json",
        "table1.md",
        "table1.txt",
    ]
    with Image.open(bare / "report" / "bare-fig3.png") as picture:
        assert min(picture.size) > 600
    assert [o["application"] for o in result["sweeps"][0]["optima"]] == [
        "reconstruction",
        "generation",
    ]


def test_several_sweeps_need_a_folder_and_names_of_their_own(bare, make, grid_of, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(bare), str(bare)])
    assert "--out" in capsys.readouterr().err
    assert main(["report", str(bare), str(bare), "--out", str(tmp_path / "both")]) == 1
    assert "several sweeps are named bare" in capsys.readouterr().err


def test_a_strip_is_cut_into_its_pictures(sweep_folder, tmp_path):
    reconstructions, samples = read_strip(sweep_folder / "pictures" / "0001.webp", 2)
    assert reconstructions.shape == samples.shape == (32, 256, 3)
    assert folded(samples).shape == (64, 128, 3)
    assert (folded(samples)[32:, :32] == samples[:, 128:160]).all()
    path = tmp_path / "odd.png"
    Image.new("RGB", (250, 64)).save(path)
    with pytest.raises(EvaluationError, match="250x64 pixels, not 2 rows of 8"):
        read_strip(path, 2)
    path.write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match=r"odd\.png"):
        read_strip(path, 2)


class Page(HTMLParser):
    """What a test asks about a drawn page: marks on its root, addresses, the card, the plots."""

    def __init__(self, text):
        super().__init__()
        self.root, self.addresses, self.card, self.card_pictures = {}, [], "", []
        self.plots = {}
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href") if found.get(name)]
        name = found.get("id") or ""
        if tag == "html":
            self.root = found
        elif name == "card":
            self._inside = "card"
        elif name.startswith("plot-"):
            self._inside = name
            self.plots[name] = {"points": 0, "canvas": 0}
        elif self._inside == "card" and tag == "img":
            self.card_pictures.append(found["src"])
        elif self._inside in self.plots:
            classes = (found.get("class") or "").split()
            self.plots[self._inside]["points"] += tag == "path" and "point" in classes
            self.plots[self._inside]["canvas"] += tag == "canvas"

    def handle_endtag(self, tag):
        if tag == "aside":
            self._inside = None

    def handle_data(self, data):
        if self._inside == "card":
            self.card += data + "\n"


HOVER = """<script>
// A pointer's move to the third model of the landscape, once everything is drawn.
const timer = setInterval(() => {
  if (!document.documentElement.dataset.drawn) return;
  clearInterval(timer);
  const plot = document.getElementById("plot-landscape"), box = plot.getBoundingClientRect();
  const {xaxis, yaxis} = plot._fullLayout, {x, y} = plot.data[0];
  plot.querySelector(".nsewdrag").dispatchEvent(new MouseEvent("mousemove", {
    bubbles: true, clientX: box.left + xaxis._offset + xaxis.d2p(x[2]),
    clientY: box.top + yaxis._offset + yaxis.d2p(y[2]),
  }));
}, 50);
</script>"""


def drawn(browser, path, profile):
    """The page and the browser's log after its scripts have run; 3D is drawn in software."""
    command = [browser, "--headless", "--no-sandbox", "--enable-logging=stderr"]
    command += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1200,900"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=BROWSER_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return Page(done.stdout), done.stderr


def test_the_page_needs_nothing_else(bare):
    text = make_page([read_sweep(bare)], {"bare-fig4": "its models have no images"})
    assert Page(text).addresses == ["data:,"]
    assert "<li>bare-fig4: its models have no images</li>" in text


def test_names_leave_the_elements_of_the_page_as_they_are(bare):
    name = "<!--<script></script>"
    text = make_page([replace(read_sweep(bare), name=name)], {})
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert "<" not in data
    assert name in map(str, json.loads(data)["sweeps"][0].values())


@pytest.mark.browser
def test_a_browser_draws_models_alone_beside_one_for_all(browser, plane_and_alone, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(make_page(plane_and_alone, {}), "utf-8")
    page, log = drawn(browser, path, tmp_path / "profile")
    assert page.root.get("data-script-error") is None
    assert "Uncaught" not in log
    for name in ("plot-landscape", "plot-plane", "plot-total"):
        assert page.plots[name]["points"] >= 9 + 8, name


def test_surfaces_of_one_model_for_all_are_drawn_with_models_alone(plane_and_alone):
    wanted = {"fig1", "fig1-surfaces", "fig3"}
    found = {d.name: d.draw(plane_and_alone[0]) for d in drawings(plane_and_alone[0])[:3]}
    assert found.keys() == wanted
    # One call of scatter on the surface and one on the plane, beside those of the models.
    dots = [len(c.get_offsets()) for part in found["fig3"].axes for c in part.collections]
    assert dots.count(len(plane_and_alone[1].rows)) == 2


@pytest.mark.browser
def test_a_browser_draws_the_page_and_hovering_shows_a_model(browser, make, grid_of, tmp_path):
    sweep = read_sweep(make(tmp_path / "cifar10-ghvae", grid_of(3)))
    text = make_page([sweep], {})
    path = tmp_path / "report.html"
    head, _, tail = text.rpartition("</body>")
    path.write_text(head + HOVER + "</body>" + tail, "utf-8")
    page, log = drawn(browser, path, tmp_path / "profile")
    assert page.root.get("data-script-error") is None
    assert "Uncaught" not in log
    assert page.root["data-drawn"] == "cifar10-ghvae psnr_modes_db"
    assert set(page.plots) == {"plot-surface", "plot-landscape", "plot-plane", "plot-total"}
    for name in ("plot-landscape", "plot-plane", "plot-total"):
        assert page.plots[name]["points"] >= 9, name
    assert page.plots["plot-surface"]["canvas"] >= 1
    row = sweep.rows[2]
    assert "Model 0002" in page.card
    for value in (
        "0.1, 10",
        f"{row.rates_nats[0]:.2f} nats",
        f"{row.total_rate_nats:.2f} nats",
        f"{row.values['psnr_modes_db']:.2f} dB",
        f"{row.values['inception_score']:.3f}",
        f"{100 * row.values['accuracy.paper.z2.rbf_svm']:.1f} %",
    ):
        assert value in page.card, value
    originals, picture = page.card_pictures
    assert originals != picture
    assert all(p.startswith("data:image/webp;base64,") for p in page.card_pictures)
