"""Report of a study: one self-contained HTML page, made from a results folder."""

from astray.report.page import write_report

__all__ = ["write_report"]
