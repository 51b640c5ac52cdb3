"""Send a fleet's messages when they are due."""
