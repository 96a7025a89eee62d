"""What benchmarks of training compare: stores to train on, loops beside which a run takes turns."""
