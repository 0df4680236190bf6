"""An application that is killed: every row says which call wrote it."""
