"""What is known of each device, and what is wrong with which."""
