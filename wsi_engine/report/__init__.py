"""A page that people look at: what was found on a slide, and on a cohort of slides."""

from wsi_engine.report.cohort import write_cohort_report
from wsi_engine.report.slide import write_report

__all__ = ["write_cohort_report", "write_report"]
