"""The protocols that clients speak to us, a file each: bytes in, bytes out, no web framework."""
