"""Work on the nodes of a Ray cluster: the same code and packages on each of them."""
