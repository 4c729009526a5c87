"""What a remote model needs beside its client: the address, the two formats, the failures, the loop."""
