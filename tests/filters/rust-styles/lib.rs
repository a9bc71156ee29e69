// Nothing here: each example is a filter.
