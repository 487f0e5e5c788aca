"""What pages for a browser are made of: Plotly figures as plain values, tables, and the document around them."""
