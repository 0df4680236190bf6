"""What do the tests of Convex's React hooks serve?"""
