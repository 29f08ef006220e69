"""A pulled stream: a query's rows go through demand-driven stages into a report, and never more of them than was asked for."""
