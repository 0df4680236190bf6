"""An application that runs into every limit of a function run."""
