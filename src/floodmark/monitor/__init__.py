"""The processes of a run seen from outside: memory, CPU, descriptors and threads, sampled while the run goes on."""
