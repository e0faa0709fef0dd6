"""The report page: record, verdict and figures in one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from depurate.errors import InputError
from depurate.recovery.records import Guarantee, PurifyRecord
from depurate.report.counting import has_kernels, hit_share, hits, uncovered_share
from depurate.report.figures import agreement, noise_per_layer, residual_histograms, spectra, trigger_sizes
from depurate.report.formats import count, duration, legible, percent, plural, scientific
from depurate.report.summary import key_numbers
from depurate.report.verdict import judge, supported
from depurate.text_files import write_text

NO_SOURCE: Mapping[str, str] = MappingProxyType({})


def render_report(record: PurifyRecord, *, title: str, source: Mapping[str, str] = NO_SOURCE) -> str:
    """Render the report of a purification as one HTML page.

    The page loads nothing: style and figures are inside, and there is no script. Equal arguments give equal
    text. Names and notes in the record are treated as hostile and escaped.

    Args:
        record: What was found, done and guaranteed.
        title: What was purified, such as the suspect's file name.
        source: Where everything came from, shown in its order: file names, checksums, the command.

    Returns:
        The page.

    >>> record = PurifyRecord("auto", Guarantee.UNCHANGED, "given", 100, (), None)
    >>> page = render_report(record, title="suspect.safetensors", source={"command": "depurate purify"})
    >>> page.startswith("<!doctype html>"), "suspect.safetensors" in page
    (True, True)
    """
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            record=record,
            title=title,
            source=source,
            verdict=judge(record),
            facts=key_numbers(record),
            drawings=(
                noise_per_layer(record.layers),
                trigger_sizes(record.search),
                spectra(record.layers),
                residual_histograms(record.layers),
                agreement(record.trials, record.layers),
            ),
            guarantees=tuple(Guarantee),
        )
    )


def write_report(
    path: str | os.PathLike[str],
    record: PurifyRecord,
    *,
    title: str,
    source: Mapping[str, str] = NO_SOURCE,
) -> Path:
    """Write the report of a purification; the file appears whole or not at all.

    Args:
        path: The HTML file; one that exists is replaced.
        record: What was found, done and guaranteed.
        title: What was purified, such as the suspect's file name.
        source: Where everything came from: file names, checksums, the command.

    Returns:
        The path written.

    Raises:
        InputError: The folder does not exist, or `path` is a folder.

    >>> record = PurifyRecord("auto", Guarantee.UNCHANGED, "given", 100, (), None)
    >>> write_report("/no/such/folder/report.html", record, title="suspect")
    Traceback (most recent call last):
    depurate.errors.InputError: /no/such/folder/report.html: the folder /no/such/folder does not exist
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise InputError(f"{target}: is a folder, not a file to write the report to")
    write_text(target, render_report(record, title=title, source=source))
    return target


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("depurate.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_presentable,
    )
    environment.filters |= {
        "breakable": _breakable,
        "count": count,
        "duration": duration,
        "has_kernels": has_kernels,
        "hit_share": hit_share,
        "hits": hits,
        "percent": percent,
        "plural": plural,
        "scientific": scientific,
        "supported": supported,
        "uncovered_share": uncovered_share,
        "svg": lambda panel: Markup(panel.svg),
    }
    return environment


def _breakable(name: str) -> Markup:
    # A dotted name breaks after its dots before it breaks anywhere else.
    return Markup(".<wbr>").join(legible(part) for part in name.split("."))


def _presentable(value: Any) -> Any:
    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
