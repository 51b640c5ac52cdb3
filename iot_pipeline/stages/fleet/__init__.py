"""The fleet kept between runs, asked and viewed."""
