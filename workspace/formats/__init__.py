"""How dates are written where Django writes them, in the staff console: as on every other page."""
