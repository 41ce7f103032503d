"""Hierarchical VAEs as a lossy image codec, a feature extractor and a sampler."""
