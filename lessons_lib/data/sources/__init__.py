"""One reader a data set that needs its own."""
