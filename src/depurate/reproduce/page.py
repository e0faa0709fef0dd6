"""The page: what each study asked, its figures and tables, in one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from depurate.errors import InputError
from depurate.report.formats import duration
from depurate.report.svg import house_style, panel
from depurate.reproduce.figures import save
from depurate.reproduce.records import finished
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.text_files import write_text

_PIXELS = 90
"""Of the page, for an inch of a figure."""


@dataclass(frozen=True)
class _Drawing:
    title: str
    caption: str
    svg: Markup
    width: int


@dataclass(frozen=True)
class _Chapter:
    name: str
    title: str
    question: str
    runs: int
    done: int
    drawings: tuple[_Drawing, ...]
    tables: tuple[Table, ...]


def write_results(title: str, studies: Sequence[Study], folder: Path, command: str) -> tuple[Path, ...]:
    """Draw every study from its records: PNG and SVG files, and the page with all of them.

    Args:
        title: Of the page.
        studies: In the order of the page.
        folder: Where the records are and the figures go.
        command: That made them.

    Returns:
        The files written, the page first.

    Raises:
        InputError: Nothing has been run, or a file cannot be written.
    """
    written: list[Path] = []
    chapters: list[_Chapter] = []
    records: list[Record] = []
    for study in studies:
        found = finished(folder, study)
        if not found:
            continue
        records += found
        pictures = _drawn(study, found)
        for picture in pictures:
            written += save(picture, folder)
        drawings = tuple(_inline(picture) for picture in pictures)
        counts = len(study.cases), len(found)
        tables = study.tabulate(found)
        chapters.append(_Chapter(study.name, study.title, study.question, *counts, drawings, tables))
    if not chapters:
        raise InputError(f"{folder}: no finished runs to draw")
    page = folder / "index.html"
    write_text(page, _render(title, chapters, _source(records, command)))
    return (page, *written)


@house_style
def _drawn(study: Study, found: Sequence[Record]) -> tuple[Picture, ...]:
    return study.draw(found)


def _inline(picture: Picture) -> _Drawing:
    svg = Markup(panel(picture.figure, picture.key, picture.words).svg)
    # Small figures are not blown up to the width of the page.
    width = round(picture.figure.get_figwidth() * _PIXELS)
    return _Drawing(picture.title, picture.caption, svg, width)


def _source(records: Sequence[Record], command: str) -> Mapping[str, str]:
    versions = {f"{name} {value}" for record in records for name, value in record.versions.items()}
    return {
        "command": command,
        "runs": f"{len(records):,}, one thread each",
        "time of all runs": duration(sum(record.seconds for record in records)),
        "core time of all runs": duration(sum(record.processor for record in records)),
        "versions": ", ".join(sorted(versions)),
    }


def _render(title: str, chapters: Sequence[_Chapter], source: Mapping[str, str]) -> str:
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("depurate.reproduce", "."), PackageLoader("depurate.report", ".")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("reproduce.html.j2")
    return page.render(title=title, chapters=chapters, source=source)
