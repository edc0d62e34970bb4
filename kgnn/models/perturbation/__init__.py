"""`PerturbationModel` and its predictors, a file each."""
