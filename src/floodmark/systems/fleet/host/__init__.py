"""A fleet in processes of its own, to be put under stress: `floodmark serve fleet` and `Target(system="fleet")`.

The host starts NATS, makes the streams of the load and starts and ends workers as it is told on the subject `fleet.control`. It only acts:
what happened is read from the record that the server itself keeps, and from what was delivered.
"""
