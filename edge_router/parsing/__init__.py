"""What people and programs write, read strictly: JSON, fields of requests, their names, amounts of memory."""
