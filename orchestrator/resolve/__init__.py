"""A spec meets its objective: every name is checked, and what follows from it is filled in."""
