"""What a prediction was worth: metrics, controls, interactions, benchmarks."""
