"""What `benchmarks.fuzz` is made of: mutations, the three kinds of input, and the campaign."""
