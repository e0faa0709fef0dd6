"""From the record of a purification to one self-contained HTML page with its figures."""

from depurate.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
