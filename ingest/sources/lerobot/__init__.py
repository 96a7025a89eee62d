"""LeRobot datasets of the versions 2.0, 2.1 and 3.0: tables in parquet, videos or images beside them."""
