"""Making a bare machine ready. Standard library only: nothing is installed when this runs."""
