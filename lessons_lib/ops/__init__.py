"""What runs the course rather than teaches it: runner, pairs, pages, studies. Notebooks never import this."""
