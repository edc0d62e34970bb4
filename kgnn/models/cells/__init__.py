"""`CellModel`, a facade over genes, labels and a network."""
