"""Links: missing edges of the whole typed graph."""
