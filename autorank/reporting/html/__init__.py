"""HTML pages: Plotly figures as plain values, templates, and the style sheet and script of the page."""
