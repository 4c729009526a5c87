"""A conversation in words of our own: messages, requests, events, replies.

It imports nothing of ours and knows no vendor: what a protocol writes becomes these once, at the border
(`surfaces/`, `engines/remote/`), and is turned back once.
"""
