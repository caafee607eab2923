"""The same blocks of a page as markdown, HTML, LaTeX and CSV."""
