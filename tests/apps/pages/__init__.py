"""What do the tests of pages serve?"""
