"""Figures: drawings of a summary as SVG, for the HTML page and beside the Markdown report.

A figure is drawn once, here, whatever shows it: vectors print well, need no script and no network,
and take their colours from ``figures.css``, light or dark. Lengths are in user units, which are
pixels where the figure is as wide as it was drawn.
"""
