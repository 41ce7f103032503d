"""The command `benchmark`: its files, what it prints and refuses, and its page in a browser."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.cli import main
from hvae_codec.reporting.rate_distortion.page import make_page
from tests.photographs import load_sample_image

BROWSER_SECONDS = 120

SLIDE = """<script>
// A reader's choice of codecs, and a pull at the slider, once everything is drawn.
const timer = setInterval(() => {
  if (!document.documentElement.dataset.drawn) return;
  clearInterval(timer);
  const byId = id => document.getElementById(id);
  const pull = (id, value, name) => {
    byId(id).value = value;
    byId(id).dispatchEvent(new Event(name));
  };
  pull("left", 0, "change");
  pull("slide", 25, "input");
  pull("measure", 1, "change");
}, 50);
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two crops of 80x72 pixels: too large for sheets, too small for MS-SSIM."""
    place = tmp_path_factory.mktemp("photographs")
    for name in ("china", "flower"):
        Image.fromarray(load_sample_image(f"{name}.jpg")[200:272, 300:380]).save(
            place / f"{name}.png"
        )
    return place


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """A run's result and files."""
    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:  # a search per codec and image takes seconds
        patch.setattr("hvae_codec.evaluation.rate_distortion.equal_bytes.SHOWN_IMAGES", 1)
        assert main(["benchmark", str(folder), "--workers", "1", "--output", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    return SimpleNamespace(out=out, result=result, page=out / "benchmark.html")


def test_names_of_files_leave_the_elements_of_the_page_as_they_are(done):
    """After "<!--<script>" an element goes on to the second "</script>"."""
    name = "<!--<script>.png"
    text = make_page(done.result, [{"scene": name, "webp": ""}])
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert "<" not in data
    assert json.loads(data)["views"][0]["label"] == name


def test_bytes_are_those_of_the_files(done, folder):
    paths = [folder / "china.png", folder / "flower.png"]
    for row in done.result["curves"]["photo"]["rows"][::3]:
        codec = hvae_codec.load("photo", row["quality"])
        blobs = [codec.encode(path) for path in paths]
        assert row["file_bytes"] == np.mean([len(blob) for blob in blobs])
        assert row["bits_per_pixel"] == pytest.approx(8 * row["file_bytes"] / (80 * 72), abs=1e-5)


def test_the_result_has_every_codec_or_says_why_not(done):
    names = {"JPEG", "WebP", "AVIF", "AVIF, default tuning", "JPEG 2000", "JPEG XL"}
    found = set(done.result["curves"]) - {"photo"}
    assert found | set(done.result["left_out"]) == names | {"SSIMULACRA2"}
    assert {rate["against"] for rate in done.result["bd_rate_percent"]} == found
    assert done.result["measures"] == ["psnr_db", "SSIM"]
    assert "225 pixels; the shortest here has 72" in done.result["left_out"]["SSIMULACRA2"]


def test_a_rerun_measures_nothing_and_prints_the_same(done, folder, run, monkeypatch):
    monkeypatch.setattr("hvae_codec.evaluation.rate_distortion.equal_bytes.SHOWN_IMAGES", 1)
    words = ("benchmark", folder, "--workers", 1, "--output", done.out)
    points = {path: path.stat().st_mtime_ns for path in (done.out / "points").iterdir()}
    again = run(*words, "--json")
    assert again.code == 0, again.err
    assert again.json == done.result | {"page": str(done.page)}
    count = len(points)
    assert f"{count} of {count} points were measured before" in again.err
    assert points == {path: path.stat().st_mtime_ns for path in (done.out / "points").iterdir()}
    text = run(*words).out
    assert text.startswith("2 images of photographs")
    assert re.search(r"^photo +WebP +[-+]?[\d.]+ %", text, re.MULTILINE)


def test_other_images_are_refused(done, folder, run):
    refused = run("benchmark", folder, "--count", 1, "--output", done.out)
    assert refused.code == 1
    assert "other images (2 in photographs" in refused.error()


def test_a_peer_without_its_package_is_named(folder, tmp_path, run, monkeypatch):
    from hvae_codec.evaluation.rate_distortion.curves import choose_curves
    from hvae_codec.evaluation.rate_distortion.image_set import load_image_set

    monkeypatch.setitem(sys.modules, "pillow_jxl", None)  # what Python does for "not there"
    _, left_out = choose_curves(load_image_set(str(folder)), ("auto",), thorough=False)
    assert [(name, "pip install hvae-codec[peers]" in why) for name, why in left_out] == [
        ("JPEG XL", True)
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no folder or image found at 'nowhere'"),
        (["{folder}", "--model", "best"], "no model 'best'; there are"),
        (["{folder}", "--output", "{folder}"], "not empty"),
        (["{folder}", "--output", "{folder}/china.png"], "is a file; --output must name a folder"),
    ],
)
def test_what_is_refused(folder, tmp_path, run, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    refused = run("benchmark", *(word.format(folder=folder) for word in words))
    assert refused.code == 1
    assert message in refused.error()


def drawn(browser, path, profile):
    """The page's root and body after its scripts have run."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-3d-apis"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom"]
    found = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=BROWSER_SECONDS
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_page_needs_nothing_else(done):
    text = done.page.read_text("utf-8")
    body = text[text.index("<body>") :]
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", body) == []
    assert all(f"<dt>{name}</dt>" in body for name in done.result["curves"])
    assert all(why in body for why in done.result["left_out"].values())


@pytest.mark.browser
def test_a_browser_draws_the_curves_and_the_slider_parts_two_codecs(browser, done, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(done.page.read_text("utf-8").replace("</body>", SLIDE + "</body>"), "utf-8")
    page = drawn(browser, path, tmp_path / "profile")
    root = re.search(r"<html[^>]*>", page)[0]
    assert 'data-drawn="yes"' in root
    assert "data-script-error" not in root
    assert len(re.findall(r'class="legend"', page)) == 1
    legend = re.findall(r'class="legendtext"[^>]*>([^<]*)<', page)
    assert legend == list(done.result["curves"])
    ticks = re.findall(r'class="xtick"><text[^>]*>([^<]*)<', page)
    assert len(ticks) >= 4
    assert all(float(tick) > 0 for tick in ticks)
    assert ">SSIM over bits per pixel<" in page
    over, under = (re.search(rf'<img id="{name}"[^>]*>', page)[0] for name in ("over", "under"))
    assert 'alt="original"' in over
    assert "inset(0px 75% 0px 0px)" in over
    assert 'alt="JPEG"' in under
    budget = int(re.search(r"JPEG: ([\d,]+) B", page)[1].replace(",", ""))
    assert budget > 0
