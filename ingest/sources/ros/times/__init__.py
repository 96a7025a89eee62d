"""When things were: clocks of streams, and their messages at the times of frames."""
