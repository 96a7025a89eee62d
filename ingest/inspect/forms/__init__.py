"""What files are, by their bytes and by what describes them."""
