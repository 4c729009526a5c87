"""What keeps secrets on this machine: found before a request leaves, and kept here, or hidden and put back.

One place, `control/guarded_engine.py`, stands before every strong model, whoever asks it. An error on the way
is an error of the answer: nothing leaves that was not looked through.
"""
