"""Files of rows, read one row at a time: JSON Lines, JSON, CSV and Parquet."""
