"""Rows of a board -> Vega-Lite charts as plain dicts. The same chart serves the page, the SVG and the PNG.

What a filter must change (the Pareto front, the scales) is computed within the chart from its data set, so that a page
only has to replace that data set. Text from records is always data, never part of an expression.
"""
