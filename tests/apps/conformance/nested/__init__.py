"""Where does a function live whose path has a folder in it? Here: see `deep`."""
