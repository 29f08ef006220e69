"""The words of floodmark as plain data: scenarios, criteria, findings, results. No behaviour beyond validation."""
