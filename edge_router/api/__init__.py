"""What Python programs call: a client in the shape of OpenAI's, for threads and for asyncio."""
