"""HTTP as this server speaks it: connections, requests, bodies, sockets, bounds."""
