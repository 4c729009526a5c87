"""Which model a query goes to: routers, rules, thresholds, doubt, labels, and how good that is."""
