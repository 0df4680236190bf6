"""An application with one large table, for asking how cost grows with its size."""
