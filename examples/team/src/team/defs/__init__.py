"""What it declares in YAML."""
