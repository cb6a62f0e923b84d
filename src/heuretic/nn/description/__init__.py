"""`describe`: what a network consists of, what its parts cost, and a picture of it."""
