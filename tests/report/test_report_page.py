from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from depurate.errors import InputError
from depurate.recovery.records import Guarantee, Histogram, PurifyRecord, Spectrum
from depurate.report import render_report, write_report
from report_records import backdoored, certified, deep, held, layer, troubled

VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}
SOURCE = {"suspect": "suspect.safetensors", "suspect sha256": "9f86d0" * 10, "command": "depurate purify ..."}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"th", "td"}:
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


@cache
def page_of(make: Callable[[], PurifyRecord]) -> str:
    return render_report(make(), title="suspect.pt", source=SOURCE)


@pytest.mark.parametrize("make", [certified, backdoored, troubled, deep])
def test_page_is_well_formed_and_lists_every_layer(make: Callable[[], PurifyRecord]) -> None:
    record = make()
    page = Page(page_of(make))
    cells = [cell.strip() for cell in page.cells]
    assert all(entry.name in cells for entry in record.layers)
    text = "".join(page.text)
    for wanted in (*SOURCE.values(), *record.warnings, *record.untouched, *record.versions.values()):
        assert wanted in text
    for entry in record.layers:
        assert all(note in text for note in entry.notes)


@pytest.mark.parametrize("make", [backdoored, troubled])
def test_page_loads_nothing_from_outside(make: Callable[[], PurifyRecord]) -> None:
    text = page_of(make)
    page = Page(text)
    assert "http://" not in text and "https://" not in text and "@import" not in text
    assert "script" not in {tag for tag, _, _ in page.attributes} and "<script" not in text.lower()
    links = [value for _, name, value in page.attributes if name in {"src", "href", "xlink:href", "action"}]
    assert links and all(value is not None and value.startswith("#") for value in links)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_identifiers_are_unique_and_every_inner_link_has_its_target() -> None:
    text = page_of(backdoored)
    page = Page(text)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {value.removeprefix("#") for _, name, value in page.attributes if name == "href" and value}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", text))
    wanted |= {value for _, name, value in page.attributes if name == "aria-labelledby" and value}
    assert wanted <= set(ids)


def test_every_picture_has_words() -> None:
    page = Page(page_of(troubled))
    pictures = sum(1 for tag, name, _ in page.attributes if tag == "svg" and name == "role")
    words = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"]
    assert pictures == len(words) == 4 and all(words)


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "conv$^{_\\frac$",
    "null\x00 and \x1b[31m and \ud800 and \u202eright to left",
    "{{ record.layers }}",
    "層.重み",
    "&lt;b&gt;",
    "a" * 5000,
)


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    spectrum = Spectrum((0.7, 0.3), (0.4, 0.6), (0.6, 0.4))
    taken = Histogram((0.1, 1.0, 10.0), (3, 4), 2)
    layers = tuple(
        layer(name, kind=name, method=name, notes=(name,), moved=0.1, spectrum=spectrum, residuals=taken)
        for name in HOSTILE
    )
    record = PurifyRecord(
        HOSTILE[0], Guarantee.APPROXIMATE, HOSTILE[1], 5, layers, None, untouched=HOSTILE, warnings=HOSTILE,
        versions={HOSTILE[0]: HOSTILE[1]},
    )  # fmt: skip
    path = write_report(tmp_path / "report.html", record, title=HOSTILE[0], source={HOSTILE[1]: HOSTILE[0]})
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text and "<img" not in text
    assert not {name for _, name, _ in page.attributes if name.startswith("on")}
    cells = [cell.strip() for cell in page.cells]
    assert all(name in cells for name in HOSTILE if name.isprintable())
    assert not re.search("[\x00\x1b\ud800\u202e]", text)


def test_equal_records_give_equal_pages_whatever_matplotlib_is_set_to() -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "other"}):
        second = render_report(troubled(), title="suspect.pt", source=SOURCE)
    assert second == page_of(troubled)


def test_rendering_leaves_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    render_report(certified(), title="suspect.pt")
    assert dict(matplotlib.rcParams) == before


def test_page_of_many_layers_stays_small() -> None:
    assert len(page_of(deep).encode()) < 1_500_000


@pytest.mark.parametrize(
    "record",
    [
        PurifyRecord("auto", Guarantee.UNCHANGED, "given", 0, (), None),
        PurifyRecord("auto", Guarantee.EXACT, "given", 0, (), held(0.5)),
        replace(certified(), agreement=None, versions={}),
        replace(troubled(), layers=troubled().layers[:1]),
        PurifyRecord("soft", Guarantee.NONE, "given", 9, (layer(fan_in=0, kernels=0, rank=0),), None),
        PurifyRecord(
            "soft", Guarantee.PARTIAL, "given", 9, (layer(moved=float("inf"), gap=float("nan")),), None
        ),
    ],
)
def test_edge_records_render(record: PurifyRecord) -> None:
    Page(render_report(record, title=""))


def test_written_file_is_the_page_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("older")
    assert write_report(str(target), certified(), title="suspect.pt", source=SOURCE) == target
    assert target.read_text(encoding="utf-8") == page_of(certified)
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folder_and_folder_as_target_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist"):
        write_report(tmp_path / "nowhere" / "report.html", certified(), title="suspect.pt")
    with pytest.raises(InputError, match="is a folder"):
        write_report(tmp_path, certified(), title="suspect.pt")


def test_a_normalisation_has_dashes_where_only_kernels_have_numbers() -> None:
    made = {"kind": "BatchNorm2d", "fan_in": 2, "kernels": 32, "patches": 0, "rank": 0, "off_span": None}
    normal = layer("norm", method="statistics", strength=None, **made)
    record = PurifyRecord("auto", Guarantee.APPROXIMATE, "given", 100, (normal,), None)
    page = render_report(record, title="net")
    row = page[page.index('<th scope="row">norm</th>') :].partition("</tr>")[0]
    # Of fan-in, rank, certified kernels, and the share off the span, which is not measured.
    assert row.count('<td class="n">–</td>') == 4 and "0 / " not in row
