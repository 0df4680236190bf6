"""A chat whose answers are typed into the database while a model speaks them."""
