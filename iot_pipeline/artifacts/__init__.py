"""What people take away: columns of readings, pictures, pages. Imported where it is made only."""
