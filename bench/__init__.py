"""floodmark measured beside its peers and beside the physical limit.

`python -m bench` runs every benchmark of `__main__.BENCHMARKS` and prints one table. The rules, held by `measure`:
contenders are interleaved (A B C A B C ...), figures are medians over rounds, ratios are medians of the ratios within each round;
cost is CPU time of the measured process tree, so that neither the other side's work nor an idle wait counts; and a contender whose
account does not add up gives no figure at all, but the reason.
"""
