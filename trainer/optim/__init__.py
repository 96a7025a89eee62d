"""What moves the weights: optimisers, averages of weights, rates."""
