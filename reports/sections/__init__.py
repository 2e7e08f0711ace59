"""Sections: what a report says below its boards and suites, each a component; their order is one tuple."""

#: registered name -> where the class is
TABLE = {
    "attention": "reports.sections.of_suite:Attention",
    "budget": "reports.sections.of_suite:Budget",
    "cells": "reports.sections.of_suite:Cells",
    "certified": "reports.sections.of_suite:Certificates",
    "cost-charts": "reports.sections.of_board:CostCharts",
    "costs": "reports.sections.of_board:Costs",
    "decisions": "reports.sections.of_board:Decisions",
    "disputes": "reports.sections.of_suite:Disputes",
    "flags": "reports.sections.of_board:Trust",
    "published": "reports.sections.of_board:Published",
    "refused": "reports.sections.of_suite:Refused",
    "transfer": "reports.sections.of_board:Transfer",
}

#: the formats of a report
PAGE, MARKDOWN, LATEX, TERMINAL, CSV, JSON = FORMATS = ("page", "markdown", "latex", "terminal", "csv", "json")

#: the sections in their order, with the formats that show each unasked; what is asked for stands in all of them, and
#: sections of others stand last
ORDER = (
    ("published", (PAGE, MARKDOWN)),
    ("flags", (PAGE, MARKDOWN)),
    ("decisions", (PAGE, MARKDOWN)),
    ("transfer", (PAGE, MARKDOWN)),
    ("cost-charts", (PAGE,)),
    ("costs", (PAGE, MARKDOWN)),
    ("certified", (PAGE, MARKDOWN, LATEX, TERMINAL)),
    ("refused", (PAGE, MARKDOWN, LATEX)),
    ("attention", (PAGE, MARKDOWN)),
    ("budget", (PAGE, MARKDOWN)),
    ("disputes", (PAGE, MARKDOWN)),
    ("cells", (PAGE, MARKDOWN, LATEX)),
)
