"""The report of a run: one file that needs no other, whose curves a real browser draws."""

import subprocess
from html.parser import HTMLParser

import pytest

BROWSER_SECONDS = 120


class Page(HTMLParser):
    """What a test asks about a page: addresses it refers to, marks of failed scripts, and per plot
    the curves' lines and the number of their points, without the legend's.
    """

    def __init__(self, text):
        super().__init__()
        self.addresses, self.errors, self.plots = [], None, {}
        self._groups = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        classes = (found.get("class") or "").split()
        self.addresses += [found[name] for name in ("src", "href") if found.get(name)]
        if tag == "html":
            self.errors = found.get("data-script-error")
        elif tag == "div" and (found.get("id") or "").startswith("plot-"):
            self.plots[found["id"]] = {"lines": [], "points": 0}
        elif tag == "g":
            self._groups.append(classes)
        elif tag == "path" and any("scatterlayer" in group for group in self._groups):
            plot = list(self.plots.values())[-1]
            if "js-line" in classes:
                plot["lines"].append(found.get("d") or "")
            elif "point" in classes:
                plot["points"] += 1

    def handle_endtag(self, tag):
        if tag == "g":
            self._groups.pop()


def drawn(browser, path, profile):
    """The page and the browser's log after its scripts have run."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=BROWSER_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return Page(done.stdout), done.stderr


def test_the_report_refers_to_nothing_outside(run):
    page = Page(run.report.read_text("utf-8"))
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)


def test_the_report_names_every_codec_and_what_is_left_out(run):
    text = run.report.read_text("utf-8")
    body = text[text.rindex("</script>") :]
    for name in [*run.result["peers"], "cifar10-maps 50", "hvae_codec quality 5, effort 2"]:
        assert f"<td>{name}" in body
    start = text[text.index("<h1>") : text.index("<h1>") + 2000]
    assert all(reason in start for reason in run.result["left_out"].values())


@pytest.mark.browser
def test_a_browser_draws_every_curve_without_a_script_error(browser, run, tmp_path):
    page, log = drawn(browser, run.report, tmp_path)
    kinds = ("ours", "maps", "peers")
    curves = [rows for kind in kinds for rows in run.result[kind].values()]
    assert len(page.plots) == 6
    for name, plot in page.plots.items():
        assert len(plot["lines"]) == len(curves), name
        assert all(line.startswith("M") and "L" in line for line in plot["lines"]), name
        assert plot["points"] == sum(map(len, curves)), name
    assert page.errors is None
    assert "Uncaught" not in log


@pytest.mark.browser
def test_a_script_that_fails_leaves_its_mark(browser, run, tmp_path):
    """What the test above relies on: an error is seen, both in the page and in the log."""
    text = run.report.read_text("utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(text.replace("</body>", "<script>notDefined()</script></body>"), "utf-8")
    page, log = drawn(browser, broken, tmp_path / "profile")
    assert "notDefined" in page.errors
    assert "Uncaught" in log
