"""One module for each group of data sets that need a reader of their own."""
