"""What a benchmark against other codecs says: tables, and one HTML page."""
