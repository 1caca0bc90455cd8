"""Results for readers: tables on the terminal and one HTML file."""
