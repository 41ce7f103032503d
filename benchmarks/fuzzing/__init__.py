"""What `benchmarks.fuzzing` is made of: mutations, the three kinds of input, and the campaign."""
