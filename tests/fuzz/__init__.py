"""Does anything that a client may send harm the server or its other clients?"""
