"""What the operating system gives: files and locks, folders, processes, proxies."""
