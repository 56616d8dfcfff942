"""The page's filters and links, in a browser: Chromium, where there is one."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from circuit_claims.reports import page
from circuit_claims.verdicts.rows import HOLDS, REFUTED, UNTESTED, Row

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")


def sample(name: str, chapter: str, verdict: str, basis: str, **fields: Any) -> dict[str, Any]:
    measured = {} if verdict == UNTESTED else {"op": ">", "expected_low": 1.0, "observed": 2.0, "ci_low": 1.5, "ci_high": 2.5}
    row = Row(f"{chapter}/file/{name}", f"The statement of {name}.", chapter, verdict=verdict, n=8, **measured, **fields)
    return row.as_dict() | {"basis": basis}


FIGURE = {"kind": "heatmap", "title": "a", "rows": ["L0"], "columns": ["H0"], "values": [[1.0]]}
ROWS = [
    sample("a", "ioi", HOLDS, "published", source="a paper on movers", figure=FIGURE),
    sample("b", "ioi", REFUTED, "definition"),
    sample("c", "ioi", UNTESTED, "published", reason="the card 'x' has no value 'c': add it"),
    sample("d", "facts", HOLDS, "definition"),
    sample("e", "facts", REFUTED, "published", reason="of movers"),
    sample("f", "sae", UNTESTED, "published", reason="the card 'x' has no value 'f': add it"),
]
NAMES = {f"{row['chapter']}-file-{row['claim_id'][-1]}": row["claim_id"][-1] for row in ROWS}


class Page(HTMLParser):
    """What is to be seen: the claims that are neither hidden nor folded away, and what surrounds them."""

    VOID = frozenset({"meta", "br", "img", "input", "hr", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shown, self.chips, self.folds, self.result = "", {}, [], None
        self.figures, self.nothing, self.status, self._in_status = 0, False, "", False
        self._open: list[tuple[str, bool]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        classes = given.get("class", "").split()
        covered = "hidden" in given or (tag == "details" and "open" not in given)
        seen = not covered and not any(hides for _, hides in self._open)
        if tag == "html":
            self.result = json.loads(given["data-result"]) if "data-result" in given else None
        if "claim" in classes and seen:
            self.shown += NAMES[given["id"]]
        if "fold" in classes:
            self.folds.append("open" in given)
        if "chip" in classes:
            self.chips[given["data-value"]] = given["aria-pressed"] == "true"
        self.figures += tag == "figure" and seen
        self.nothing = self.nothing or ("nothing" in classes and seen)
        self._in_status = self._in_status or "shown" in classes
        if tag not in self.VOID:
            self._open.append((tag, covered))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass
        self._in_status = self._in_status and tag != "p"

    def handle_data(self, data):
        self.status += data if self._in_status else ""


def seen(folder: Path, address: str = "", doing: str = "") -> Page:
    """The page as it stands at this address, after what is done to it by a script of the test."""
    html = page.page({"subject": "mini"}, ROWS)
    if doing:  # only the page's own script may run: the test's needs the page without its policy
        before, policy, after = html.partition('<meta http-equiv="Content-Security-Policy"')
        html = before + (policy and after.partition(">")[2])
        said = "document.documentElement.dataset.result = JSON.stringify(result)"
        html = html.replace("</body>", f"<script>let result = null; {{ {doing} }} {said};</script></body>")
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={folder / 'profile'}"]
    command = [str(CHROMIUM), *options, path.as_uri() + address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "</html>" in done.stdout, done.stderr[-2000:]
    return Page(done.stdout)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("", "abde"),
        ("#?verdict=refuted", "be"),
        ("#?verdict=refuted&verdict=holds&basis=definition", "bd"),
        ("#?chapter=ioi&basis=published", "a"),
        ("#?text=MOVERS", "ae"),
        ("#?text=movers+statement&verdict=holds", "a"),
        ("#?verdict=untested", "cf"),
        ("#?chapter=sae", "f"),
        ("#ioi-file-c", "abcde"),
    ],
)
def test_an_address_says_what_is_shown(tmp_path, address, shown):
    """The untested ones are folded away, unless they are asked for, are all that there is, or a link leads to one."""
    found = seen(tmp_path, address)
    assert "".join(sorted(found.shown)) == shown and not found.nothing
    assert {chip for chip, pressed in found.chips.items() if pressed} == {
        part.partition("=")[2] for part in address[2:].split("&") if "=" in part and not part.startswith("text")
    }
    assert found.figures == ("a" in shown)
    if not address:
        assert "6 claims, 2 of them untested and folded away" in found.status and found.folds == [False, False]


def test_what_nothing_matches_is_said(tmp_path):
    found = seen(tmp_path, "#?text=nowhere")
    assert (found.shown, found.nothing, found.figures) == ("", True, 0) and "0 of 6 claims" in found.status


def test_chips_are_pressed_and_combined_and_stand_in_the_address(tmp_path):
    doing = """
      const chip = (value) => document.querySelector(`.chip[data-value="${value}"]`);
      const field = document.getElementById("filter_text");
      chip("refuted").click(); chip("facts").click();
      const first = [location.hash, chip("holds").textContent.trim(), chip("ioi").textContent.trim()];
      chip("facts").click(); field.value = "statement of b."; field.dispatchEvent(new Event("input"));
      result = [...first, location.hash, chip("refuted").getAttribute("aria-pressed")]
    """
    found = seen(tmp_path, "", doing)
    # A chip counts what it would show beside the other groups' filters.
    first = ["#?verdict=refuted&chapter=facts", "1 holds", "1 Indirect object identification"]
    assert found.result == [*first, "#?verdict=refuted&text=statement+of+b.", "true"]
    assert found.shown == "b"


def test_clearing_shows_all_again(tmp_path):
    doing = "document.querySelector('.clear').click(); result = [location.hash, document.querySelector('.clear').hidden]"
    found = seen(tmp_path, "#?verdict=refuted&text=b", doing)
    assert found.result == ["", True] and "".join(sorted(found.shown)) == "abde"


def test_a_link_to_a_claim_shows_it_though_a_filter_hides_it_and_its_chapter_is_closed(tmp_path):
    doing = """
      for (const whole of document.querySelectorAll(".whole")) whole.open = false;
      location.hash = "#facts-file-d"; followAddress();
      result = document.querySelector("#facts-file-d .link").getAttribute("href")
    """
    found = seen(tmp_path, "#?verdict=refuted&chapter=ioi", doing)
    assert found.result == "#facts-file-d" and found.shown == "d"


def test_printing_unfolds_everything(tmp_path):
    doing = """
      window.dispatchEvent(new Event("beforeprint"));
      const closed = document.querySelectorAll("details:not([open])").length;
      window.dispatchEvent(new Event("afterprint"));
      result = [closed, document.querySelectorAll("details:not([open])").length > 2]
    """
    assert seen(tmp_path, "", doing).result == [0, True]


def test_no_page_is_wider_than_a_narrow_screen(tmp_path):
    doing = """
      const frame = document.createElement("iframe");
      frame.style.width = "360px";
      frame.srcdoc = document.documentElement.outerHTML.replace(/<script>let result[^]*/, "");
      document.body.replaceChildren(frame);
      frame.onload = () => {
        const root = frame.contentDocument.documentElement;
        document.documentElement.dataset.result = JSON.stringify([root.clientWidth, root.scrollWidth]);
      }
    """
    wide, scrolled = seen(tmp_path, "", doing).result or (0, 0)
    assert 300 < wide <= 360 and scrolled <= wide


def test_without_its_script_the_page_shows_everything():
    found = Page(page.page({"subject": "mini"}, ROWS))
    assert "".join(sorted(found.shown)) == "abcdef" and found.folds == [True, True] and found.figures == 1
