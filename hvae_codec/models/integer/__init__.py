"""Networks of integers: what a trained model becomes so that its pixels are the same everywhere."""
