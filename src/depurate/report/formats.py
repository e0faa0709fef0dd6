"""Numbers and names as a reader meets them on the page and in the figures."""

from __future__ import annotations

import math

DASH = "–"
NBSP = "\u00a0"


def percent(share: float | None) -> str:
    r"""Say a share in percent; it is never rounded up to the whole nor down to nothing.

    Args:
        share: The share, 1 for the whole; None where it was not measured.

    Returns:
        The text, such as `97.5 %`, with a blank that does not break.

    >>> percent(0.975), percent(0.99999), percent(0.0000001), percent(None), percent(float("nan"))
    ('97.5\xa0%', '99.99\xa0%', '<0.001\xa0%', '–', 'undefined')
    """
    if share is None:
        return DASH
    if not math.isfinite(share):
        return "undefined" if math.isnan(share) else "infinite"
    return f"{_percent_digits(100 * share)}{NBSP}%"


def _percent_digits(value: float) -> str:
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001:
        return "<0.001" if value > 0 else ">−0.001"
    if 99.95 <= size < 100:
        return f"{math.floor(value * 100) / 100:.2f}"
    if size >= 1e5:
        return f"{value:.1e}"
    return f"{value:.1f}" if size >= 1 else f"{value:.2g}"


def points(loss: float) -> str:
    r"""Say a loss of accuracy, given in points of 1, in percentage points.

    >>> points(0.0142), points(0.0), points(0.00042)
    ('1.4\xa0points', '0\xa0points', '0.042\xa0points')
    """
    return percent(loss).replace("%", "points")


def count(number: int) -> str:
    """Write a whole number with its thousands set apart.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{number:,}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Write a count with its noun in the right number.

    >>> plural(1, "layer"), plural(2000, "layer"), plural(0, "entry", "entries")
    ('1 layer', '2,000 layers', '0 entries')
    """
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"


def scientific(value: float | None) -> str:
    """Write a number of any size in at most three digits, a dash for None.

    >>> scientific(2.13e-12), scientific(0.8412), scientific(None)
    ('2.1e-12', '0.841', '–')
    """
    if value is None:
        return DASH
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """Say a wall time in the units one would use aloud.

    >>> duration(0.0312), duration(12.34), duration(125.0), duration(7260.0)
    ('31 ms', '12.3 s', '2 min 5 s', '2 h 1 min')
    """
    if not math.isfinite(seconds):
        return DASH
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def legible(text: str) -> str:
    r"""Make text that cannot disturb the page: blanks for white space, a stand-in for each unprintable sign.

    Names in checkpoints are free text. Control characters, lone surrogates and marks that turn the reading
    direction would break the figures' XML or make a name read as another one.

    >>> legible("conv\x00 1\n\u202e")
    'conv� 1 �'
    """
    return "".join(c if c.isprintable() or c == NBSP else " " if c.isspace() else "\ufffd" for c in text)


def shorten(name: str, limit: int = 36) -> str:
    """Fit a name into a figure: its middle is left out when it is longer than `limit`.

    >>> shorten("layer4.1.block.0.downsample.conv2d")
    'layer4.1.block.0.downsample.conv2d'
    >>> shorten("encoder.stages.3.blocks.17.attention.query", 20)
    'encoder…ention.query'
    """
    name = legible(name)
    if len(name) <= limit:
        return name
    head = (limit - 1) * 2 // 5
    return f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"
