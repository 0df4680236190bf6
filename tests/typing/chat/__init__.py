"""An application for pyright alone: it is never run."""
